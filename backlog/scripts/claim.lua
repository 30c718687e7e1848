-- Lease the tickets that go next to the replicas that have room for them, as long as there are both.
-- ARGV from 7: worker, most leases, life time of a lease in us, prefill budget s, the same while tenants compete,
-- KV capacity in tokens, most requests in flight on a replica or empty, then for each usable replica: name, fixed s, in
-- flight, ahead s, KV tokens, known prefill s, known KV tokens, known requests (`backlog.ticket.Offer`).
-- Returns: why it stopped, the tenants that are held by a limit of their own, the leases as JSON. A lease of another
-- worker's ticket is in its owner's mailbox too.
local me, most, lease_us = ARGV[FIRST_ARGUMENT], tonumber(ARGV[FIRST_ARGUMENT + 1]), ARGV[FIRST_ARGUMENT + 2]
local budget_s, contested_s = tonumber(ARGV[FIRST_ARGUMENT + 3]), tonumber(ARGV[FIRST_ARGUMENT + 4])
local capacity_tokens, most_in_flight = tonumber(ARGV[FIRST_ARGUMENT + 5]), tonumber(ARGV[FIRST_ARGUMENT + 6])
if waiting() == 0 then
  return {'empty', {}, {}}
end

local draining = {}
for _, replica in ipairs(redis.call('SMEMBERS', DRAINING)) do
  draining[replica] = true
end

-- What others have claimed since the claiming worker's view is added to what it knows.
local offers, claimed = {}, {}
local fields = redis.call('HGETALL', CLAIMED)
for i = 1, #fields, 2 do
  claimed[fields[i]] = tonumber(fields[i + 1])
end
local counted = redis.call('HGETALL', COUNTED)
for i = 1, #counted, 2 do
  claimed['n:' .. counted[i]] = tonumber(counted[i + 1])
end
for i = FIRST_ARGUMENT + 7, #ARGV, 8 do
  local replica = ARGV[i]
  if not draining[replica] then
    local more_s = math.max(0, (claimed['p:' .. replica] or 0) - tonumber(ARGV[i + 5]))
    local more_tokens = math.max(0, (claimed['k:' .. replica] or 0) - tonumber(ARGV[i + 6]))
    -- Work of which no number is known is one request at least.
    local least = (more_tokens > 0 or more_s > 1e-6) and 1 or 0
    local more = math.max(least, (claimed['n:' .. replica] or 0) - tonumber(ARGV[i + 7]))
    offers[#offers + 1] = {
      replica = replica,
      fixed_s = tonumber(ARGV[i + 1]) + more_s,
      in_flight = tonumber(ARGV[i + 2]) + more,
      ahead_s = tonumber(ARGV[i + 3]) + more_s,
      kv_tokens = tonumber(ARGV[i + 4]) + more_tokens,
    }
  end
end

-- An empty replica always has room: a request larger than its KV cache is for the model server to refuse.
local function has_room(offer, ticket, limit_s)
  if offer.in_flight <= 0 then
    return true
  elseif most_in_flight and offer.in_flight >= most_in_flight then
    return false
  end
  return offer.kv_tokens + ticket.kv_tokens <= capacity_tokens and offer.ahead_s <= limit_s
end

-- The offer with the least pick score. A replica that failed on the ticket is used only where there is no other.
local function choose(ticket, limit_s)
  local avoid = {}
  for _, replica in ipairs(ticket.avoid) do
    avoid[replica] = true
  end
  local others = false
  for _, offer in ipairs(offers) do
    others = others or not avoid[offer.replica]
  end
  local best, best_s
  for _, offer in ipairs(offers) do
    if has_room(offer, ticket, limit_s) and not (others and avoid[offer.replica]) then
      local score_s = offer.fixed_s + offer.in_flight * ticket.crowd_s
      if not best or score_s < best_s then
        best, best_s = offer, score_s
      end
    end
  end
  return best
end

-- GPU-seconds of a tenant in flight or leased, added up when first asked for and kept while this script leases.
local in_flight_gpu_s = setmetatable({}, {__index = function(sums, tenant)
  local sum = 0
  for _, worker in ipairs(living()) do
    sum = sum + (tonumber(redis.call('HGET', FLYING .. worker, tenant) or '') or 0)
  end
  for _, raw in ipairs(redis.call('HVALS', LEASED)) do
    local lease = cjson.decode(raw)
    if lease.tenant == tenant then
      sum = sum + lease.gpu_s
    end
  end
  sums[tenant] = sum
  return sum
end})

-- A bucket of prefill seconds that fills at the tenant's pace, holds one second's worth and may go into debt.
local function pace_level(ticket)
  local level, at_us = string.match(redis.call('HGET', PACES, ticket.tenant) or '', '^(%S+) (%S+)$')
  if not level then
    return ticket.prefill_pace
  end
  local elapsed_s = math.max(0, now_us - tonumber(at_us)) / 1e6
  return math.min(ticket.prefill_pace, tonumber(level) + ticket.prefill_pace * elapsed_s)
end

local held = {}
local function within_limits(ticket)
  if given(ticket.prefill_pace) and pace_level(ticket) < 0 then
    return false
  end
  if given(ticket.concurrent_gpu_s) then
    local flying = in_flight_gpu_s[ticket.tenant]
    -- A ticket above the limit runs alone.
    return flying <= 1e-9 or flying + ticket.gpu_s <= ticket.concurrent_gpu_s
  end
  return true
end

-- The tenants of a sorted set and their scores, in its order.
local function in_order(key)
  local page, at, from = {}, 1, 0
  return function()
    if at > #page then
      page, at, from = redis.call('ZRANGE', key, from, from + 15, 'WITHSCORES'), 1, from + 16
    end
    at = at + 2
    return page[at - 2], tonumber(page[at - 1] or '')
  end
end

-- Tenants with overdue tickets that wait in other bands only.
local function strangers(band)
  return redis.call('ZDIFF', 2, BAND .. 'overdue', BAND .. band)
end

-- The tenant whose turn it is in a band, and the line in which its ticket stands. Overdue tickets compete in any band.
-- Tenants at a limit of their own are passed over.
local function next_tenant(band)
  local now = virtual_now(band)
  local best, best_rank
  local function consider(tenant, its_rank)
    if not held[tenant] and (not best or its_rank < best_rank or (its_rank == best_rank and tenant < best)) then
      best, best_rank = tenant, its_rank
    end
  end
  for tenant, its_rank in in_order(BAND .. band) do
    if best and its_rank > best_rank then
      break
    end
    if FAIR then
      consider(tenant, math.max(its_rank, now - LEAD_S))
    else
      consider(tenant, tonumber(redis.call('ZSCORE', BAND .. 'overdue', tenant) or '') or its_rank)
    end
  end
  if not best then
    return nil
  end
  if FAIR then
    for _, tenant in ipairs(strangers(band)) do
      consider(tenant, math.max(tag_of(band, tenant), now))
    end
  else
    for tenant, its_rank in in_order(BAND .. 'overdue') do
      if its_rank > best_rank then
        break
      end
      consider(tenant, its_rank)
    end
  end
  local overdue = redis.call('ZSCORE', BAND .. 'overdue', best)
  return best, LINE .. (overdue and 'overdue' or band) .. ':' .. best
end

-- The ticket that goes next and the band in which it does; tickets of dead owners are dropped on the way.
local function head()
  for band = BANDS - 1, 0, -1 do
    local tenant, line = next_tenant(band)
    while tenant do
      local id = redis.call('ZRANGE', line, 0, 0)[1]
      local ticket = id and read(id)
      if not ticket then
        drop_all()
        return nil
      elseif not alive(ticket.owner) then
        remove(ticket.id)
      elseif within_limits(ticket) then
        return ticket, band
      else
        held[tenant] = true
      end
      tenant, line = next_tenant(band)
    end
  end
  if not next(held) and waiting() > 0 then
    drop_all()
  end
  return nil
end

local function contested(band)
  local tenants = redis.call('ZCARD', BAND .. band)
  return FAIR and (tenants > 1 or tenants + #strangers(band) > 1)
end

-- A ticket past its wait bound goes to the head of its tenant and competes in the highest band where anyone waits; one
-- that is leased does so if it comes back.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', BOUNDS, '-inf', exact(now_us / 1e6), 'LIMIT', 0, 64)) do
  redis.call('ZREM', BOUNDS, id)
  local ticket = read(id)
  if ticket then
    ticket.overdue, ticket.key = true, ticket.arrived_s - AHEAD_S
    write(ticket)
    if redis.call('HEXISTS', LEASED, id) == 0 then
      stand(ticket)
    end
  end
end

local leases, why = {}, 'most'
while #leases < most do
  local ticket, band = head()
  if not ticket then
    why = next(held) and 'held' or 'empty'
    break
  end
  local offer = choose(ticket, contested(band) and contested_s or budget_s)
  if not offer then
    why = 'room'
    break
  end
  if rawget(in_flight_gpu_s, ticket.tenant) then
    in_flight_gpu_s[ticket.tenant] = in_flight_gpu_s[ticket.tenant] + ticket.gpu_s
  end
  charge_start(band, ticket)
  leave_line(ticket)
  local lease = cjson.encode({
    ticket = ticket.id, replica = offer.replica, owner = ticket.owner, tenant = ticket.tenant, band = band,
    gpu_s = ticket.gpu_s, prefill_s = ticket.prefill_s, prefill_tokens = ticket.prefill_tokens, kv_tokens = ticket.kv_tokens,
  })
  redis.call('ZADD', LEASES, text(now_us + lease_us), ticket.id)
  redis.call('HSET', LEASED, ticket.id, lease)
  redis.call('HINCRBYFLOAT', CLAIMED, 'p:' .. offer.replica, exact(ticket.prefill_s))
  redis.call('HINCRBY', CLAIMED, 'k:' .. offer.replica, text(ticket.kv_tokens))
  redis.call('HINCRBY', COUNTED, offer.replica, 1)
  if given(ticket.prefill_pace) then
    redis.call('HSET', PACES, ticket.tenant, exact(pace_level(ticket) - ticket.prefill_s) .. ' ' .. text(now_us))
    keep(PACES)
  end
  if ticket.owner ~= me then
    mail(ticket.owner, 'L' .. lease)
  end
  offer.fixed_s, offer.ahead_s = offer.fixed_s + ticket.prefill_s, offer.ahead_s + ticket.prefill_s
  offer.in_flight, offer.kv_tokens = offer.in_flight + 1, offer.kv_tokens + ticket.kv_tokens
  leases[#leases + 1] = lease
end
keep(LEASES)
keep(LEASED)
keep(CLAIMED)
keep(COUNTED)
local tenants = {}
for tenant in pairs(held) do
  tenants[#tenants + 1] = tenant
end
return {why, tenants, leases}
