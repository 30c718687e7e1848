-- Let tickets wait. A ticket that is known already is replaced; one that was leased comes back and is not charged.
-- When the queue is full, the tenant with the most tickets in the lowest band gives way.
-- ARGV from 7: worker, most tickets, then for each ticket: id, waited s, band, patience s, first (0 or 1), bound s, body.
-- Returns the ids of this worker's tickets that found no place.
local me, most = ARGV[FIRST_ARGUMENT], tonumber(ARGV[FIRST_ARGUMENT + 1])
local turned_away = {}

-- The line that gives way to a ticket of this band and tenant: `nil` when that ticket has to go itself.
local function longest_line(band, tenant)
  for low = 0, band do
    local longest, length = nil, 0
    for _, name in ipairs(redis.call('ZRANGE', BAND .. low, 0, -1)) do
      local tickets = redis.call('ZCARD', LINE .. low .. ':' .. name)
      if tickets > length then
        longest, length = name, tickets
      end
    end
    if longest and low < band then
      return LINE .. low .. ':' .. longest
    end
    if longest and length > redis.call('ZCARD', LINE .. low .. ':' .. tenant) + 1 then
      return LINE .. low .. ':' .. longest
    end
  end
  return nil
end

local function make_room(band, tenant)
  if waiting() < most then
    return true
  end
  local line = longest_line(band, tenant)
  if not line then
    return false
  end
  local last = remove(redis.call('ZREVRANGE', line, 0, 0)[1])
  if last.owner == me then
    turned_away[#turned_away + 1] = last.id
  else
    mail(last.owner, 'E' .. last.id)
  end
  return true
end

local was_empty = waiting() == 0
for i = FIRST_ARGUMENT + 2, #ARGV, 7 do
  local id, band = ARGV[i], tonumber(ARGV[i + 2])
  local known, charged_band = remove(id)
  if charged_band then
    refund(charged_band, known)
  end
  local ticket = cjson.decode(ARGV[i + 6])
  if known or make_room(band, ticket.tenant) then
    ticket.id, ticket.band, ticket.body = id, band, ARGV[i + 6]
    ticket.arrived_s = now_us / 1e6 - tonumber(ARGV[i + 1])
    ticket.key = ticket.arrived_s + tonumber(ARGV[i + 3])
    if ARGV[i + 4] == '1' then
      ticket.key = ticket.arrived_s - AHEAD_S
    end
    write(ticket)
    redis.call('SADD', OWNED .. ticket.owner, id)
    keep(OWNED .. ticket.owner)
    redis.call('ZADD', BOUNDS, exact(ticket.arrived_s + tonumber(ARGV[i + 5])), id)
    keep(BOUNDS)
    enter_line(ticket)
  else
    turned_away[#turned_away + 1] = id
  end
end

-- The others must not dispatch on their idle path any more. At most every 20 ms: a queue may empty and fill quickly.
if was_empty and waiting() > 0 then
  local woken_us = tonumber(redis.call('HGET', VIRTUAL, 'woken') or '') or 0
  if math.abs(now_us - woken_us) > 20000 then
    redis.call('HSET', VIRTUAL, 'woken', text(now_us))
    keep(VIRTUAL)
    for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
      if worker ~= me and alive(worker) then
        mail(worker, 'W')
      end
    end
  end
end
return turned_away
