-- Ends deductions from a bucket. What waits in its queue is claimed and made as before.
-- KEYS: gate, queue
-- ARGV: token
-- Returns how many wait in the queue; -3 not this opening.
if redis.call('HGET', KEYS[1], 'tok') ~= ARGV[1] then
  return -3
end
redis.call('HSET', KEYS[1], 'st', 'closed')
return redis.call('XLEN', KEYS[2])
