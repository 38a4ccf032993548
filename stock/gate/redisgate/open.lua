-- Opens a bucket, empty: units come by grants. A higher token replaces what an earlier opening left behind, but for
-- the streams and what is known of those who wait in the queue: they may yet become orders. Ids of entries begin with
-- the token, so those of this opening are higher. The rate goes on as it was, too.
-- KEYS: gate, ticket; per SKU: leaved, flow, back, buyer
-- ARGV: token, limit per customer (0: none), complete|filling; per SKU: sku, bucket id, 0 or -1 (unlimited)
-- Returns 1 made, 0 there already with this token, -3 there with a higher one.
local token = redis.call('HGET', KEYS[1], 'tok')
if token == ARGV[1] then
  return 0
end
if token and tonumber(token) > tonumber(ARGV[1]) then
  return -3
end
local rate = redis.call('HMGET', KEYS[1], 'tat', 'at')
redis.call('DEL', KEYS[1])
redis.call('UNLINK', KEYS[2])
local fields = {'tok', ARGV[1], 'st', 'open', 'n', 0, 'lim', ARGV[2], 'flows', ARGV[3]}
for s = 1, (#ARGV - 3) / 3 do
  local k, sku = 4 * s - 1, ARGV[3 * s + 1]
  redis.call('UNLINK', KEYS[k + 1], KEYS[k + 2], KEYS[k + 3])
  redis.call('SET', KEYS[k], ARGV[3 * s + 3])
  for _, field in ipairs({'b:' .. sku, ARGV[3 * s + 2], 's:' .. sku, 0, 'm:' .. sku, 0}) do
    fields[#fields + 1] = field
  end
end
if rate[1] then
  fields[#fields + 1], fields[#fields + 2], fields[#fields + 3], fields[#fields + 4] = 'tat', rate[1], 'at', rate[2]
end
-- The gate comes last: until then every other script answers -3.
redis.call('HSET', KEYS[1], unpack(fields))
return 1
