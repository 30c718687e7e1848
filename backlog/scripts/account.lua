-- Book one worker's numbered batch, once, and say how tenants stand. Runs after clock.lua and calendar.lua.
-- KEYS: 1 number of the worker's last batch. All other keys share its hash tag.
-- ARGV: 1 stem of usage keys, 2 stem of spent keys, 3 stem of bucket keys, 4 number of the batch (0: none), life times in
-- ms of 5 the last number, 6 a day of usage, 7 a day of spent, 8 a month of spent, 9 how many usages, 10 how many
-- charges; then for each usage: tenant, pool and model, 11 numbers as in FIELDS; for each charge: tenant, GPU-seconds per
-- minute or empty, GPU-seconds, money; for each tenant that is asked for: name, GPU-seconds per minute or empty.
-- A number that is not above the last one changes nothing.
-- Returns: s until the next day, s until the next month, then for each tenant that is asked for: bucket or nil,
-- GPU-seconds and money spent in the day, the same in the month. All numbers as text.
local FIELDS = {'requests', 'input_tokens', 'cached_tokens', 'output_tokens', 'prefill_gpu_s', 'decode_gpu_s', 'money',
  'spilled_requests', 'spilled_input_tokens', 'spilled_output_tokens', 'spilled_money'}
local USAGE, SPENT, BUCKET, number = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local usages, charges = tonumber(ARGV[9]), tonumber(ARGV[10])
local day, month, day_left_us, month_left_us = calendar(now_us)
local charged = 11 + (1 + #FIELDS) * usages
local asked = charged + 4 * charges

-- A bucket that is not there is full, so it may go once it would be.
local function level_of(tenant, per_minute)
  local kept = redis.call('HMGET', BUCKET .. tenant, 'level', 'at')
  local level, at_us = tonumber(kept[1] or ''), tonumber(kept[2] or '')
  if not level or not at_us then
    return per_minute
  end
  return math.min(per_minute, level + math.max(0, now_us - at_us) * per_minute / 60000000)
end

local function take(tenant, per_minute, gpu_s)
  local level = level_of(tenant, per_minute) - gpu_s
  if level >= per_minute then
    redis.call('DEL', BUCKET .. tenant)
    return
  end
  redis.call('HSET', BUCKET .. tenant, 'level', exact(level), 'at', text(now_us))
  redis.call('PEXPIRE', BUCKET .. tenant, text(math.ceil((per_minute - level) / per_minute * 60000) + 1000))
end

local function add(key, field, amount)
  if tonumber(amount) ~= 0 then
    redis.call('HINCRBYFLOAT', key, field, amount)
  end
end

-- The number first: it is refused where memory is full, before anything is booked.
if number > 0 and number > (tonumber(redis.call('GET', KEYS[1]) or '') or 0) then
  redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
  for i = 11, charged - 1, 1 + #FIELDS do
    for n, field in ipairs(FIELDS) do
      add(USAGE .. day, ARGV[i] .. ' ' .. field, ARGV[i + n])
    end
  end
  for i = charged, asked - 1, 4 do
    local tenant, per_minute = ARGV[i], tonumber(ARGV[i + 1])
    if per_minute then
      take(tenant, per_minute, tonumber(ARGV[i + 2]))
    end
    for n, field in ipairs({'gpu_s ', 'money '}) do
      add(SPENT .. day, field .. tenant, ARGV[i + 1 + n])
      add(SPENT .. month, field .. tenant, ARGV[i + 1 + n])
    end
  end
  redis.call('PEXPIRE', USAGE .. day, ARGV[6])
  redis.call('PEXPIRE', SPENT .. day, ARGV[7])
  redis.call('PEXPIRE', SPENT .. month, ARGV[8])
end
local standings = {exact(day_left_us / 1000000), exact(month_left_us / 1000000)}
for i = asked, #ARGV, 2 do
  local tenant, per_minute = ARGV[i], tonumber(ARGV[i + 1])
  standings[#standings + 1] = per_minute and exact(level_of(tenant, per_minute)) or false
  for _, period in ipairs({day, month}) do
    local spent = redis.call('HMGET', SPENT .. period, 'gpu_s ' .. tenant, 'money ' .. tenant)
    standings[#standings + 1] = spent[1] or '0'
    standings[#standings + 1] = spent[2] or '0'
  end
end
return standings
