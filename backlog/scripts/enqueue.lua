-- Let tickets wait. A ticket that is known already is replaced; one that was leased comes back and is not charged.
-- When the queue is full, the tenant with the most tickets in the lowest band gives way.
-- ARGV from 7: worker, most tickets, then for each ticket: id, waited s, band, patience s, first (0 or 1), bound s, body.
-- Returns the ids of this worker's tickets that found no place.
local me, most = ARGV[FIRST_ARGUMENT], tonumber(ARGV[FIRST_ARGUMENT + 1])
local turned_away = {}

-- Band -> tenant -> tickets in its line. A band is counted when it is first asked for.
local lines = {}
local function lines_of(band)
  if not lines[band] then
    lines[band] = {}
    for _, tenant in ipairs(redis.call('ZRANGE', BAND .. band, 0, -1)) do
      lines[band][tenant] = redis.call('ZCARD', LINE .. band .. ':' .. tenant)
    end
  end
  return lines[band]
end

local function count(ticket, more)
  local band = lines[ticket.band]
  if band then
    band[ticket.tenant] = (band[ticket.tenant] or 0) + more
  end
end

-- The line that gives way to a ticket of this band and tenant: `nil` when that ticket has to go itself.
local function longest_line(band, tenant)
  for low = 0, band do
    local longest, length = nil, 0
    for name, tickets in pairs(lines_of(low)) do
      if tickets > length or (tickets == length and longest and name < longest) then
        longest, length = name, tickets
      end
    end
    if longest and (low < band or length > (lines_of(low)[tenant] or 0) + 1) then
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
  count(last, -1)
  if last.owner == me then
    turned_away[#turned_away + 1] = last.id
  else
    mail(last.owner, 'E' .. last.id)
  end
  return true
end

-- Tickets of a worker that is never heard of again are reaped, even if it has not reported yet.
redis.call('ZADD', WORKERS, 'NX', text(now_us), me)
keep(WORKERS)

local was_empty = waiting() == 0
for i = FIRST_ARGUMENT + 2, #ARGV, 7 do
  local id, band = ARGV[i], tonumber(ARGV[i + 2])
  local known, charged_band = remove(id)
  if known then
    refund(charged_band, known)
    count(known, charged_band and 0 or -1)
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
    count(ticket, 1)
  else
    turned_away[#turned_away + 1] = id
  end
end
if was_empty and waiting() > 0 then
  wake(me)
end
return turned_away
