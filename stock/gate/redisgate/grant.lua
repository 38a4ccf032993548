-- Applies a move of the database, pool to bucket, by its number. A negative one is a move back that this Redis has lost.
-- KEYS: gate, leaved
-- ARGV: sku, bucket id, number of the move, units
-- Returns what is left (-1 unlimited), -5 done before, -4 an earlier move is missing, -3 another bucket,
-- -2 a negative move does not fit: Redis has gone back in time.
local sku, seq, delta = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local gate = redis.call('HMGET', KEYS[1], 'b:' .. sku, 's:' .. sku)
local units = redis.call('GET', KEYS[2])
local left = units and tonumber(units)
if gate[1] ~= ARGV[2] or not left then
  return -3
end
local last = tonumber(gate[2])
if seq <= last then
  return -5
end
if seq > last + 1 then
  return -4
end
if left == -1 then
  redis.call('HSET', KEYS[1], 's:' .. sku, ARGV[3], 'm:' .. sku, ARGV[4])
  return -1
end
if left + delta < 0 then
  return -2
end
-- Half-way there must be too few units, never too many: the number first, unless units are taken away.
if delta < 0 then
  redis.call('DECRBY', KEYS[2], -delta)
end
redis.call('HSET', KEYS[1], 's:' .. sku, ARGV[3], 'm:' .. sku, ARGV[4])
if delta > 0 then
  redis.call('INCRBY', KEYS[2], delta)
end
return left + delta
