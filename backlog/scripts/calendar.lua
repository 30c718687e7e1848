-- Days and months of UTC. `calendar(us)` gives for a Redis clock: the day as 2026-11-24, the month as 2026-11, and the
-- microseconds until the next day and until the next month.
local function days_of_month(year, month)
  if month == 2 then
    local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    return leap and 29 or 28
  end
  return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

local function days_of_year(year)
  return 337 + days_of_month(year, 2)
end

local function calendar(us)
  local day_us = 86400 * 1000000
  local days = math.floor(us / day_us)
  local left_us = (days + 1) * day_us - us
  local year, month = 1970, 1
  while days >= days_of_year(year) do
    days = days - days_of_year(year)
    year = year + 1
  end
  while days >= days_of_month(year, month) do
    days = days - days_of_month(year, month)
    month = month + 1
  end
  local name = string.format('%04d-%02d', year, month)
  local days_left = days_of_month(year, month) - days - 1
  return string.format('%s-%02d', name, days + 1), name, left_us, left_us + days_left * day_us
end
