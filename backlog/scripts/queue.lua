-- The waiting tickets: how one is read, enters, leaves, is leased and comes back. Runs after names.lua.
-- A ticket is kept as `arrival key band overdue body`; the body is the JSON of a `Ticket`. It is either in the line of
-- its band and tenant (and, once overdue, in its tenant's line of overdue ones), or leased. `backlog.order.Queue` is the
-- same in Python.

-- Virtual time and finish tags, for each band by itself.
local function virtual_now(band)
  return tonumber(redis.call('HGET', VIRTUAL, 'now:' .. band) or '') or 0
end

local function tag_of(band, tenant)
  return tonumber(redis.call('HGET', VIRTUAL, 't:' .. band .. ':' .. tenant) or '') or 0
end

local function waits(band, tenant)
  return redis.call('EXISTS', LINE .. band .. ':' .. tenant) == 1
end

-- Where a tenant's next ticket starts: not before virtual time, unless the tenant waits and is owed something.
local function finish_of(band, tenant)
  local floor = virtual_now(band)
  if waits(band, tenant) then
    floor = floor - LEAD_S
  end
  return math.max(tag_of(band, tenant), floor)
end

local function waiting()
  return tonumber(redis.call('HGET', SUMS, 'tickets') or '') or 0
end

-- Give a tenant its place among the tenants of a band, or none when it has no ticket there. Among those with overdue
-- tickets there is no turn in the fair order: it depends on the band where they compete.
local function rank(band, tenant)
  local head = redis.call('ZRANGE', LINE .. band .. ':' .. tenant, 0, 0, 'WITHSCORES')
  if #head == 0 then
    redis.call('ZREM', BAND .. band, tenant)
    redis.call('HDEL', SUMS, band .. ':' .. tenant)
    return
  end
  local score = tonumber(head[2])
  if FAIR then
    score = band == 'overdue' and 0 or tag_of(band, tenant)
  end
  redis.call('ZADD', BAND .. band, exact(score), tenant)
  keep(BAND .. band)
end

local function set_tag(band, tenant, tag)
  redis.call('HSET', VIRTUAL, 't:' .. band .. ':' .. tenant, exact(tag))
  keep(VIRTUAL)
  if FAIR then
    redis.call('ZADD', BAND .. band, 'XX', exact(tag), tenant)
  end
end

local function set_virtual_now(band, now)
  redis.call('HSET', VIRTUAL, 'now:' .. band, exact(now))
  keep(VIRTUAL)
end

local function read(id)
  local raw = redis.call('HGET', TICKETS, id)
  if not raw then
    return nil
  end
  local arrived, key, band, overdue, body = string.match(raw, '^(%S+) (%S+) (%d+) (%d) (.*)$')
  local ticket = cjson.decode(body)
  ticket.id, ticket.arrived_s, ticket.key, ticket.band = id, tonumber(arrived), tonumber(key), tonumber(band)
  ticket.overdue, ticket.body = overdue == '1', body
  return ticket
end

local function write(ticket)
  local marks = ticket.band .. ' ' .. (ticket.overdue and 1 or 0)
  redis.call('HSET', TICKETS, ticket.id,
    exact(ticket.arrived_s) .. ' ' .. exact(ticket.key) .. ' ' .. marks .. ' ' .. ticket.body)
  keep(TICKETS)
end

-- Stand at the ticket's key in the line of its band and tenant, and once overdue in that of its tenant's overdue ones.
local function stand(ticket)
  local line = LINE .. ticket.band .. ':' .. ticket.tenant
  redis.call('ZADD', line, exact(ticket.key), ticket.id)
  keep(line)
  rank(ticket.band, ticket.tenant)
  if ticket.overdue then
    redis.call('ZADD', LINE .. 'overdue:' .. ticket.tenant, exact(ticket.key), ticket.id)
    keep(LINE .. 'overdue:' .. ticket.tenant)
    rank('overdue', ticket.tenant)
  end
end

local function enter_line(ticket)
  if not waits(ticket.band, ticket.tenant) then
    set_tag(ticket.band, ticket.tenant, finish_of(ticket.band, ticket.tenant))
  end
  if redis.call('HINCRBY', SUMS, 'tickets', 1) == 1 then
    redis.call('HSET', SUMS, 'since', text(now_us))
  end
  redis.call('HINCRBYFLOAT', SUMS, ticket.band .. ':' .. ticket.tenant, exact(ticket.gpu_s))
  keep(SUMS)
  stand(ticket)
end

local function leave_line(ticket)
  redis.call('ZREM', LINE .. ticket.band .. ':' .. ticket.tenant, ticket.id)
  redis.call('HINCRBYFLOAT', SUMS, ticket.band .. ':' .. ticket.tenant, exact(-ticket.gpu_s))
  rank(ticket.band, ticket.tenant)
  -- An empty queue holds exactly no work: float sums would drift.
  if redis.call('HINCRBY', SUMS, 'tickets', -1) <= 0 then
    redis.call('DEL', SUMS)
  end
  if ticket.overdue then
    redis.call('ZREM', LINE .. 'overdue:' .. ticket.tenant, ticket.id)
    rank('overdue', ticket.tenant)
  end
end

-- The band in which a waiting ticket competes now: an overdue one in the highest where anyone waits.
local function band_of(ticket)
  for band = BANDS - 1, ticket.band, -1 do
    if ticket.overdue and redis.call('EXISTS', BAND .. band) == 1 then
      return band
    end
  end
  return ticket.band
end

-- The ticket goes: virtual time moves to its start, its tenant is charged, in this band only.
-- Called before the ticket leaves its line.
local function charge_start(band, ticket)
  local start = finish_of(band, ticket.tenant)
  set_virtual_now(band, math.max(virtual_now(band), start))
  set_tag(band, ticket.tenant, start + ticket.gpu_s / ticket.tenant_weight)
end

-- What a lease was charged is given back; `band` is nil when there was none.
local function refund(band, ticket)
  if band then
    set_tag(band, ticket.tenant, tag_of(band, ticket.tenant) - ticket.gpu_s / ticket.tenant_weight)
  end
end

-- End a lease. Gives the band in which the ticket was charged; nil when it was not leased.
local function unlease(id)
  local raw = redis.call('HGET', LEASED, id)
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', LEASED, id)
  return raw and cjson.decode(raw).band or nil
end

-- Take a ticket out for good, wherever it stands. Gives the ticket, and the band that was charged for its lease if it
-- had one; nil when there is none.
local function remove(id)
  local ticket = read(id)
  if not ticket then
    return nil
  end
  local charged_band = unlease(id)
  if not charged_band then
    leave_line(ticket)
  end
  redis.call('HDEL', TICKETS, id)
  redis.call('SREM', OWNED .. ticket.owner, id)
  redis.call('ZREM', BOUNDS, id)
  return ticket, charged_band
end

-- A Redis that evicts has lost a key, or somebody has deleted it: what is left is dropped. Owners miss their tickets with
-- their next reports and enqueue them again.
local function drop_all()
  for band = 0, BANDS do
    local name = band < BANDS and band or 'overdue'
    for _, tenant in ipairs(redis.call('ZRANGE', BAND .. name, 0, -1)) do
      redis.call('DEL', LINE .. name .. ':' .. tenant)
    end
    redis.call('DEL', BAND .. name)
  end
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    redis.call('DEL', OWNED .. worker)
  end
  redis.call('DEL', TICKETS, BOUNDS, LEASES, LEASED, SUMS)
end

local function mail(worker, message)
  redis.call('RPUSH', MAIL .. worker, message)
  redis.call('PEXPIRE', MAIL .. worker, HEARTBEAT_MS)
end

-- Something waits since this script: workers other than `me` must not dispatch on their idle path any more. At most
-- every 20 ms: a queue may empty and fill quickly.
local function wake(me)
  local woken_us = tonumber(redis.call('HGET', VIRTUAL, 'woken') or '') or 0
  if math.abs(now_us - woken_us) <= 20000 then
    return
  end
  redis.call('HSET', VIRTUAL, 'woken', text(now_us))
  keep(VIRTUAL)
  for _, worker in ipairs(living()) do
    if worker ~= me then
      mail(worker, 'W')
    end
  end
end
