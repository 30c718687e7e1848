-- Take tickets out that will not run: the client left, the deadline passed, or the owner sent them without a lease.
-- ARGV from 7: the ids. A lease that was not started is refunded. Unknown ids are no error.
for i = FIRST_ARGUMENT, #ARGV do
  local ticket, charged_band = remove(ARGV[i])
  refund(charged_band, ticket)
end
return 0
