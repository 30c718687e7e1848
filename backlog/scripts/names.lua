-- What every script of a pool is given. Runs after clock.lua.
-- KEYS: as `backlog.keys.pool_keys` lists them; a stem is completed by a worker's id, a band, or a band and a tenant.
-- ARGV: 1 order, 2 heartbeat limit in ms, 3 life time of the queue in ms, 4 bands, 5 seconds taken from the key of what
-- goes first, 6 most virtual seconds ahead.
local WORKERS, REPORT, REPLICAS, DECISION, TICKETS, LINE, BAND, OWNED, BOUNDS, LEASES, LEASED, VIRTUAL, SUMS, CLAIMED,
  MAIL, PACES, FLYING, BATCH, DRAINING, COUNTED = unpack(KEYS)
local FAIR = ARGV[1] == 'fair'
local HEARTBEAT_MS, TTL_MS = ARGV[2], ARGV[3]
local BANDS, AHEAD_S, LEAD_S = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST_ARGUMENT = 7

local function keep(key)
  redis.call('PEXPIRE', key, TTL_MS)
end

local function given(value)
  return value ~= nil and value ~= cjson.null
end

-- Heard of within the heartbeat limit, and not from a future that a clock which was set back has left behind.
local function alive(worker)
  local at_us = tonumber(redis.call('ZSCORE', WORKERS, worker) or '')
  return at_us ~= nil and math.abs(now_us - at_us) <= HEARTBEAT_MS * 1000
end

local function living()
  return redis.call('ZRANGEBYSCORE', WORKERS, text(now_us - HEARTBEAT_MS * 1000), text(now_us + HEARTBEAT_MS * 1000))
end
