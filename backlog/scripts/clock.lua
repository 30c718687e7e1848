-- The clock of all ages: Redis's own, in microseconds (exact in a double until the year 2255).
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]

-- Whole numbers as text.
local function text(number)
  return string.format('%.0f', number)
end

-- Numbers as text without loss.
local function exact(number)
  return string.format('%.17g', number)
end
