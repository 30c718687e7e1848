-- Forget the tickets of one worker and, unless it stays, the worker at once instead of when its heartbeat runs out. The
-- number of its last batch stays: after an outage that batch may come again.
-- ARGV from 7: worker, stays (0 or 1). Its leases that were not started are refunded.
local me = ARGV[FIRST_ARGUMENT]
for _, id in ipairs(redis.call('SMEMBERS', OWNED .. me)) do
  local ticket, charged_band = remove(id)
  refund(charged_band, ticket)
end
redis.call('DEL', OWNED .. me, MAIL .. me)
if ARGV[FIRST_ARGUMENT + 1] == '0' then
  redis.call('ZREM', WORKERS, me)
  redis.call('DEL', REPORT .. me, FLYING .. me)
end
return 0
