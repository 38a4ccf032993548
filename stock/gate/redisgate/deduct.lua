-- Takes units for a batch of orders, each order whole or not at all.
-- KEYS: gate, ticket, wal, queue; per SKU: leaved, flow, buyer
-- ARGV: token, most entries of the queue, number of SKUs;
--   per order: order_no, customer, key (16 bytes), hash (8 bytes), mode d|q, number of lines,
--   per line: index of the SKU, line id, quantity; at last the payload
-- Returns -3 (closed, another token, never opened), or {entry, waiting, filling, a reply per order}. entry is the
-- number of the batch's entry in wal, entry + i that of its i-th queued order, waiting the length of the queue before.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'st', 'n', 'lim', 'flows')
if gate[1] ~= ARGV[1] or gate[2] ~= 'open' then
  return -3
end
local entry, limit = tonumber(gate[3]) + 1, tonumber(gate[4])
local room, skus = tonumber(ARGV[2]), tonumber(ARGV[3])

-- What has to be looked up, for all orders together.
local first, keys, ids, customers, queues = {}, {}, {}, {}, false
for s = 1, skus do
  ids[s], customers[s] = {}, {}
end
local at = 4
while ARGV[at] do
  first[#first + 1], keys[#keys + 1] = at, ARGV[at + 2]
  queues = queues or ARGV[at + 4] == 'q'
  local payload = at + 6 + 3 * tonumber(ARGV[at + 5])
  for l = at + 6, payload - 1, 3 do
    local s = tonumber(ARGV[l])
    ids[s][#ids[s] + 1], customers[s][#customers[s] + 1] = ARGV[l + 1], ARGV[at + 1]
  end
  at = payload + 1
end

local function look(key, fields)
  local found = {}
  for i, value in ipairs(redis.call('HMGET', KEYS[key], unpack(fields))) do
    found[fields[i]] = value
  end
  return found
end
local tickets, left, flows, bought = look(2, keys), {}, {}, {}
for s = 1, skus do
  local units = redis.call('GET', KEYS[3 * s + 2])
  left[s] = units and tonumber(units)
  flows[s] = look(3 * s + 3, ids[s])
  bought[s] = limit > 0 and look(3 * s + 4, customers[s])
end
local waiting = queues and redis.call('XLEN', KEYS[4]) or 0

-- What will be written, at the end and once for all orders.
local wal, queue, ticket, records, flow, buyer, took = {}, {}, {}, {}, {}, {}, {}
for s = 1, skus do
  flow[s], buyer[s], took[s] = {}, {}, 0
end

-- Entry and state of an order that has a ticket; 0 and 'o' of one that is known by its flow or key alone.
local function ticketOf(no)
  local record = records[no] or redis.call('HGET', KEYS[2], no)
  if record then
    local n, state = string.match(record, '^(%d+) (%a)')
    return tonumber(n), state
  end
  return 0, 'o'
end

local function take(at, payload)
  local no, customer, n = ARGV[at], ARGV[at + 1], entry
  if ARGV[at + 4] == 'q' then
    queue[#queue + 1] = {no, ARGV[payload]}
    n = entry + #queue
  else
    wal[#wal + 1], wal[#wal + 2] = no, ARGV[payload]
  end
  local units, least = 0, -1
  for l = at + 6, payload - 1, 3 do
    local s, id, q = tonumber(ARGV[l]), ARGV[l + 1], tonumber(ARGV[l + 2])
    units = units + q
    flows[s][id] = ARGV[l + 2]
    flow[s][#flow[s] + 1], flow[s][#flow[s] + 2] = id, ARGV[l + 2]
    if limit > 0 then
      bought[s][customer] = (tonumber(bought[s][customer] or 0)) + q
      buyer[s][#buyer[s] + 1], buyer[s][#buyer[s] + 2] = customer, bought[s][customer]
    end
    if left[s] ~= -1 then
      left[s], took[s] = left[s] - q, took[s] + q
      if least == -1 or left[s] < least then
        least = left[s]
      end
    end
  end
  tickets[ARGV[at + 2]] = no .. ARGV[at + 3]
  records[no] = string.format('%.0f %s %.0f %s', n, ARGV[at + 4], units, customer)
  local t = #ticket
  ticket[t + 1], ticket[t + 2], ticket[t + 3], ticket[t + 4] = ARGV[at + 2], tickets[ARGV[at + 2]], no, records[no]
  return least
end

local function decide(at)
  local no, customer, payload = ARGV[at], ARGV[at + 1], at + 6 + 3 * tonumber(ARGV[at + 5])
  for l = at + 6, payload - 1, 3 do
    if not left[tonumber(ARGV[l])] then
      return -3
    end
  end
  -- A repeat is answered before anything is counted: it may be the buyer of the last unit.
  local known = tickets[ARGV[at + 2]]
  if known then
    local n, state = ticketOf(string.sub(known, 1, -9))
    if state ~= 'x' then -- a withdrawn ticket leaves its key free
      if string.sub(known, -8) ~= ARGV[at + 3] then
        return -5
      end
      return {string.sub(known, 1, -9), n, state}
    end
  end
  for l = at + 6, payload - 1, 3 do
    if flows[tonumber(ARGV[l])][ARGV[l + 1]] then
      return {no, ticketOf(no)}
    end
  end
  for l = at + 6, payload - 1, 3 do
    local s = tonumber(ARGV[l])
    if limit > 0 and (tonumber(bought[s][customer] or 0)) + tonumber(ARGV[l + 2]) > limit then
      return -4
    end
  end
  for l = at + 6, payload - 1, 3 do
    local units = left[tonumber(ARGV[l])]
    if units ~= -1 and units < tonumber(ARGV[l + 2]) then
      return -2
    end
  end
  if ARGV[at + 4] == 'q' and waiting + #queue >= room then
    return -6
  end
  return take(at, payload)
end

local replies = {entry, waiting, gate[5] == 'filling' and 1 or 0}
for i, at in ipairs(first) do
  replies[i + 3] = decide(at)
end
if #ticket == 0 then
  return replies
end

-- Tickets before units: a script that dies half-way leaves a ticket too many, which the database refuses, and never a
-- unit too many. The number comes first of all: an entry's id must not be used again.
redis.call('HSET', KEYS[1], 'n', entry + #queue)
if #wal > 0 then
  redis.call('XADD', KEYS[3], ARGV[1] .. '-' .. string.format('%.0f', entry), unpack(wal))
end
for i, order in ipairs(queue) do
  redis.call('XADD', KEYS[4], ARGV[1] .. '-' .. string.format('%.0f', entry + i), unpack(order))
end
for s = 1, skus do
  if #flow[s] > 0 then
    redis.call('HSET', KEYS[3 * s + 3], unpack(flow[s]))
  end
  if #buyer[s] > 0 then
    redis.call('HSET', KEYS[3 * s + 4], unpack(buyer[s]))
  end
end
redis.call('HSET', KEYS[2], unpack(ticket))
for s = 1, skus do
  if took[s] > 0 then
    redis.call('DECRBY', KEYS[3 * s + 2], took[s])
  end
end
return replies
