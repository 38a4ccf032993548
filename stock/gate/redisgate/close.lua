-- Ends deductions from a bucket. Returns, grants and takings back go on, until it is empty.
-- KEYS: gate, wal, queue; per SKU: leaved
-- ARGV: token
-- Returns {last entry, length of wal, length of queue, left per SKU}, the same again; -3 not this opening.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'n')
if gate[1] ~= ARGV[1] then
  return -3
end
redis.call('HSET', KEYS[1], 'st', 'closed')
local found = {tonumber(gate[2]), redis.call('XLEN', KEYS[2]), redis.call('XLEN', KEYS[3])}
for k = 4, #KEYS do
  found[k] = tonumber(redis.call('GET', KEYS[k]) or -3)
end
return found
