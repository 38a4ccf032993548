-- Takes units out of the bucket, for the database to put into its pool under the same number.
-- KEYS: gate, leaved
-- ARGV: sku, bucket id, number of the move, units wanted
-- Returns how many were taken, the same again for the same number; -1 unlimited, nothing to take; -3 another bucket,
-- -4 an earlier move is missing, -5 the number is that of another move.
local sku, seq = ARGV[1], tonumber(ARGV[3])
local gate = redis.call('HMGET', KEYS[1], 'b:' .. sku, 's:' .. sku, 'm:' .. sku)
local units = redis.call('GET', KEYS[2])
local left = units and tonumber(units)
if gate[1] ~= ARGV[2] or not left then
  return -3
end
if left == -1 then
  return -1
end
local last, size = tonumber(gate[2]), tonumber(gate[3])
if seq == last and size <= 0 then
  return -size
end
if seq <= last then
  return -5
end
if seq > last + 1 then
  return -4
end
-- Units before the number: half-way there are too few of them, never too many.
local taken = math.min(left, tonumber(ARGV[4]))
if taken > 0 then
  redis.call('DECRBY', KEYS[2], taken)
end
redis.call('HSET', KEYS[1], 's:' .. sku, ARGV[3], 'm:' .. sku, 0 - taken)
return taken
