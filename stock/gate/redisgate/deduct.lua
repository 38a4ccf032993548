-- Takes units for a batch of orders, each order whole or not at all, and says of each whether it is made at once or
-- waits in the queue: that is decided here, so that all processes together keep to the rate.
-- KEYS: gate, ticket, wal, queue, queued, claimed; per SKU: leaved, flow, buyer
-- ARGV: token, now, interval between two orders (0: no rate), burst, most entries of the queue; then one per order,
-- packed, because every argument costs time:
--   order_no (26 bytes) key (16) hash (8) mode a|d (1), per line "SKU LINE QUANTITY;" (SKU is an index from 1), "|",
--   length of the customer (1 byte), customer, payload
-- Times are in microseconds. Mode a may wait in the queue, d may not.
-- Returns -3 (closed, another token, never opened), or {entry, filling, a reply per order}. entry is the number of the
-- batch's entry in wal. A reply is a number, {order_no, entry, state} of a repeat, or, of an order that was queued now,
-- {order_no, entry, 'q', what is left, entries ahead of it}.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'st', 'n', 'lim', 'flows', 'tat', 'at')
if gate[1] ~= ARGV[1] or gate[2] ~= 'open' then
  return -3
end
local sub, match, byte, a, bar = string.sub, string.match, string.byte, string.byte('a|', 1, 2)
local entry, limit = tonumber(gate[3]) + 1, tonumber(gate[4])
local interval, burst, room = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local count, skus = #ARGV - 5, (#KEYS - 6) / 3
local left = {}
for s = 1, skus do
  local units = redis.call('GET', KEYS[3 * s + 4])
  left[s] = units and tonumber(units)
end

-- The rate (GCRA): tat is when the next order is due. The clock does not go back by less than ten seconds, which is
-- another process's, and is set back when it does by more. So a tat which is further away than this rate could bring it
-- is of an earlier rate or clock, and is not waited for.
local now, tat, waiting, unread, fresh_tat = 0, 0, 0, 0, false
if interval > 0 then
  now, tat = tonumber(ARGV[2]), tonumber(gate[6] or 0)
  local at = tonumber(gate[7] or 0)
  if at > now and at - now <= 10000000 then
    now = at
  end
  if tat > now + math.max(burst, 0) + interval then
    tat = now + math.max(burst, 0)
  end
  tat = math.max(tat, now)
  waiting = redis.call('XLEN', KEYS[4])
  unread = waiting > 0 and math.max(waiting - redis.call('ZCARD', KEYS[6]), 0) or 0
end

-- Lines of all orders one behind the other: those of order i are first[i] to first[i + 1] - 1. customer[i] and
-- payload[i] are where these begin.
local lines, keys, first, sku, line, quantity, units = 0, {}, {}, {}, {}, {}, {}
local customer, payload, some = {}, {}, {}
for i = 1, count do
  local order, at, enough = ARGV[i + 5], 52, true
  keys[i], first[i] = sub(order, 27, 42), lines + 1
  repeat
    lines = lines + 1
    sku[lines], line[lines], quantity[lines], at = match(order, '^(%d+) (%d+) (%d+);()', at)
    sku[lines], units[lines] = tonumber(sku[lines]), tonumber(quantity[lines])
    local there = left[sku[lines]]
    enough = enough and there and (there == -1 or there >= units[lines])
  until byte(order, at) == bar
  some[i], customer[i], payload[i] = enough, at + 2, at + 2 + byte(order, at + 1)
end
first[count + 1] = lines + 1

-- What is known, for all orders together. Flows are read of those alone that may be taken: when nothing is left, a
-- refusal costs one look at the tickets. What waits since an earlier opening has no ticket in this one.
local known = redis.call('HMGET', KEYS[2], unpack(keys))
local before = waiting > 0 and redis.call('HMGET', KEYS[5], unpack(keys)) or {}
local flowed, bought, ids, which, buyers = {}, {}, {}, {}, {}
for s = 1, skus do
  ids[s], which[s], bought[s], buyers[s] = {}, {}, {}, {}
end
for i = 1, count do
  local s = sku[first[i]]
  if some[i] then
    ids[s][#ids[s] + 1], which[s][#which[s] + 1] = sub(ARGV[i + 5], 1, 26) .. '-' .. line[first[i]], i
  end
  if limit > 0 then
    for l = first[i], first[i + 1] - 1 do
      local of = buyers[sku[l]]
      of[#of + 1] = sub(ARGV[i + 5], customer[i], payload[i] - 1)
    end
  end
end
for s = 1, skus do
  if #ids[s] > 0 then
    for j, value in ipairs(redis.call('HMGET', KEYS[3 * s + 5], unpack(ids[s]))) do
      flowed[which[s][j]] = value
    end
  end
  if #buyers[s] > 0 then
    for j, value in ipairs(redis.call('HMGET', KEYS[3 * s + 6], unpack(buyers[s]))) do
      bought[s][buyers[s][j]] = tonumber(value or 0)
    end
  end
end

-- What will be written, at the end and once for all orders.
local wal, queue, queued, ticket, fresh, records, flow, buyer, took = {}, {}, {}, {}, {}, {}, {}, {}, {}
for s = 1, skus do
  flow[s], buyer[s], took[s] = {}, {}, 0
end
local direct = string.format('%.0f d ', entry)

-- Entry and state of an order that has a ticket, or waits since an earlier opening; 0 and 'o' of one that is known by
-- its flow or key alone.
local function ticketOf(no)
  local record = records[no] or redis.call('HGET', KEYS[2], no)
  if record then
    local n, state = match(record, '^(%d+) (%a)')
    return tonumber(n), state
  end
  local place = waiting > 0 and redis.call('HGET', KEYS[5], no)
  if place then
    return tonumber(match(place, '^%d+%-(%d+)')), 'q'
  end
  return 0, 'o'
end

-- The reply to an order that is taken, and queued or not.
local function take(i, no, waits)
  local order, head, sum, least, t = ARGV[i + 5], direct, 0, -1, #ticket
  local who, body = sub(order, customer[i], payload[i] - 1), sub(order, 43, 50)
  if waits then
    queue[#queue + 1] = {no, sub(order, payload[i])}
    head = string.format('%.0f q ', entry + #queue)
    local q = #queued
    queued[q + 1], queued[q + 2], queued[q + 3] = keys[i], no .. body, no
    queued[q + 4] = ARGV[1] .. '-' .. string.format('%.0f ', entry + #queue) .. keys[i] .. who
  else
    wal[#wal + 1], wal[#wal + 2] = no, sub(order, payload[i])
  end
  local from, to = first[i], first[i + 1] - 1
  for l = from, to do
    local s, n, f = sku[l], units[l], flow[sku[l]]
    f[#f + 1], f[#f + 2] = no .. '-' .. line[l], quantity[l]
    sum = sum + n
    if limit > 0 then
      bought[s][who] = bought[s][who] + n
      buyer[s][#buyer[s] + 1], buyer[s][#buyer[s] + 2] = who, bought[s][who]
    end
    if left[s] ~= -1 then
      left[s], took[s] = left[s] - n, took[s] + n
      if least == -1 or left[s] < least then
        least = left[s]
      end
    end
  end
  fresh[keys[i]] = no .. body
  records[no] = head .. (from == to and quantity[from] or string.format('%.0f', sum)) .. ' ' .. who
  ticket[t + 1], ticket[t + 2], ticket[t + 3], ticket[t + 4] = keys[i], fresh[keys[i]], no, records[no]
  if waits then
    return {no, entry + #queue, 'q', least, waiting + #queue - 1}
  end
  return least
end

local refused = false -- somebody whom the next bucket may have: its repeat is new here when units have come back

local function decide(i)
  local order, from, to = ARGV[i + 5], first[i], first[i + 1] - 1
  local no = sub(order, 1, 26)
  for l = from, to do
    if not left[sku[l]] then
      return -3
    end
  end
  -- A repeat is answered before anything is counted: it may be the buyer of the last unit.
  local of = fresh[keys[i]] or known[i] or before[i]
  if of then
    local n, state = ticketOf(sub(of, 1, 26))
    if state ~= 'x' or sub(of, 1, 26) == no then -- a withdrawn ticket leaves its key free, for another number
      if sub(of, 27) ~= sub(order, 43, 50) then
        return -5
      end
      return {sub(of, 1, 26), n, state}
    end
  end
  if limit > 0 then
    local who = sub(order, customer[i], payload[i] - 1)
    for l = from, to do
      if bought[sku[l]][who] + units[l] > limit then
        return -4
      end
    end
  end
  for l = from, to do
    local there = left[sku[l]]
    if there ~= -1 and there < units[l] then
      refused = true
      return -2
    end
  end
  if flowed[i] or records[no] then -- its number took units already, whatever became of its key
    return {no, ticketOf(no)}
  end
  if interval == 0 then
    return take(i, no, false)
  end
  if unread == 0 and tat - now <= burst then -- nobody waits, and the rate has room
    tat, fresh_tat = tat + interval, true
    return take(i, no, false)
  end
  if waiting + #queue >= room or byte(order, 51) ~= a then
    refused = true
    return -6
  end
  return take(i, no, true)
end

local replies = {entry, gate[5] == 'filling' and 1 or 0}
for i = 1, count do
  replies[i + 2] = decide(i)
end
if refused and interval > 0 and gate[5] ~= 'filling' then
  redis.call('HSET', KEYS[1], 'flows', 'filling')
end
if #ticket == 0 then
  return replies
end

if fresh_tat then
  redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', tat), 'at', string.format('%.0f', now))
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
if #queue > 0 then
  redis.call('HSET', KEYS[5], unpack(queued))
end
for s = 1, skus do
  if #flow[s] > 0 then
    redis.call('HSET', KEYS[3 * s + 5], unpack(flow[s]))
  end
  if #buyer[s] > 0 then
    redis.call('HSET', KEYS[3 * s + 6], unpack(buyer[s]))
  end
end
redis.call('HSET', KEYS[2], unpack(ticket))
for s = 1, skus do
  if took[s] > 0 then
    redis.call('DECRBY', KEYS[3 * s + 4], took[s])
  end
end
return replies
