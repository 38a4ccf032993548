-- Reads the head of the queue for the one who makes orders of it, and marks it as read in the same step: what is
-- marked cannot be cancelled any more. Entries stay until they are deleted, and are read again by whoever comes next.
-- KEYS: gate, queue
-- ARGV: token, most entries
-- Returns the entries as XRANGE does; -3 not this opening.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'taken')
if gate[1] ~= ARGV[1] then
  return -3
end
local entries = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[2])
local taken = tonumber(gate[2])
for _, entry in ipairs(entries) do
  local token, n = string.match(entry[1], '^(%d+)-(%d+)$')
  if token == ARGV[1] then -- those of an earlier opening have no ticket here, and cannot be cancelled
    taken = math.max(taken, tonumber(n))
  end
end
if taken > tonumber(gate[2]) then
  redis.call('HSET', KEYS[1], 'taken', taken)
end
return entries
