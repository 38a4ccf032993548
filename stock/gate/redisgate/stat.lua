-- One consistent cut of a bucket. It changes nothing.
-- KEYS: gate, wal, queue; per SKU: leaved
-- ARGV: per SKU: sku
-- Returns {token, state, last entry, limit, flows, length of wal, length of queue,
-- per SKU: bucket id, last move, its size, left}; what is missing is -3; -3 alone when there is no gate.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'st', 'n', 'lim', 'flows')
if not gate[1] then
  return -3
end
local found = {tonumber(gate[1]), gate[2], tonumber(gate[3]), tonumber(gate[4]), gate[5],
  redis.call('XLEN', KEYS[2]), redis.call('XLEN', KEYS[3])}
for s, sku in ipairs(ARGV) do
  local of = redis.call('HMGET', KEYS[1], 'b:' .. sku, 's:' .. sku, 'm:' .. sku)
  for i = 1, 3 do
    found[4 * s + 3 + i] = tonumber(of[i] or -3)
  end
  found[4 * s + 7] = tonumber(redis.call('GET', KEYS[3 + s]) or -3)
end
return found
