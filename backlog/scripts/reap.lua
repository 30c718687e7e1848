-- Return leases that nobody started, and drop the tickets of workers that are not heard of any more.
-- ARGV from 7: the worker that reports. At most 64 leases and 512 tickets at a time: it runs with every report.
local leased = redis.call('ZCARD', LEASES)
if redis.call('HLEN', TICKETS) ~= waiting() + leased or redis.call('HLEN', LEASED) ~= leased then
  drop_all()
end
local was_empty = waiting() == 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', text(now_us), 'LIMIT', 0, 64)) do
  local ticket, charged_band = read(id), unlease(id)
  if ticket then
    refund(charged_band, ticket)
    enter_line(ticket)
  end
end
if was_empty and waiting() > 0 then
  wake(ARGV[FIRST_ARGUMENT])
end

-- A dead worker's leases are not refunded: it may have sent them. The number of its last batch of charges stays, as it
-- may live on behind a broken network and repeat that batch.
local reaped = 0
for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  if reaped < 512 and not alive(worker) then
    for _, id in ipairs(redis.call('SRANDMEMBER', OWNED .. worker, 512 - reaped)) do
      remove(id)
      redis.call('SREM', OWNED .. worker, id)
      reaped = reaped + 1
    end
    if redis.call('EXISTS', OWNED .. worker) == 0 then
      redis.call('ZREM', WORKERS, worker)
      redis.call('DEL', REPORT .. worker, MAIL .. worker, FLYING .. worker)
    end
  end
end
