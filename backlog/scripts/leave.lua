-- Forget one worker and its tickets at once instead of waiting for its heartbeat to run out. The number of its last batch
-- stays: after an outage that batch may come again.
-- ARGV from 7: worker. Its leases that were not started are refunded.
local me = ARGV[FIRST_ARGUMENT]
for _, id in ipairs(redis.call('SMEMBERS', OWNED .. me)) do
  local ticket, charged_band = remove(id)
  refund(charged_band, ticket)
end
redis.call('ZREM', WORKERS, me)
redis.call('DEL', OWNED .. me, REPORT .. me, MAIL .. me, FLYING .. me)
return 0
