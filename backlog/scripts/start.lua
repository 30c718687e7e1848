-- Leased tickets have been sent: they are in their owner's report from now on.
-- ARGV from 7: the ids. One whose lease had run out meanwhile is charged here. Unknown ids are no error.
for i = FIRST_ARGUMENT, #ARGV do
  local ticket = read(ARGV[i])
  if ticket and redis.call('HEXISTS', LEASED, ticket.id) == 0 then
    charge_start(band_of(ticket), ticket)
  end
  remove(ARGV[i])
end
return 0
