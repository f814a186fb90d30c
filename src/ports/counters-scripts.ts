/**
 * What Redis does for the counters, in Lua: one script takes all claims of a request or none, one books what was
 * used. Time is Redis's own, so the replicas' clocks do not matter. A counter is one hash:
 *
 *   <end>     amount of the slot that ends then (ms since the epoch)      u  sum of all slots
 *   o, n      end of the oldest slot, of the newest                       w  length of its window, in ms
 *   r:<id>    reserved by that replica   x:<id>  when that lapses         r  sum of all r:<id>
 *   x         no r:<id> lapses before                                     t  when the key itself expires
 *
 * The sums make a take one read and one write for each claim; the slots are walked when one leaves the window, the
 * replicas when one may have died. Running either again after a lost reply is told apart by `fence`: a script that
 * Redis comes to later than that does nothing, for its caller has long been answered.
 */
import { defineScript } from "./redis-script.ts";

const COMMON = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, ttl, fence = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if fence > 0 and now > fence then return {-2, now} end

local function name(ms) return string.format('%.0f', ms) end

local function slotEnd(window, slots)
  return math.ceil((math.floor(now * slots / window) + 1) * window / slots)
end

-- Drops the slots that have left the window; gives used, oldest, newest.
local function slide(key, window)
  local all = redis.call('HGETALL', key)
  local used, oldest, newest, gone = 0, nil, nil, {}
  for i = 1, #all, 2 do
    local ends = tonumber(all[i])
    if ends then
      if ends <= now - window then
        gone[#gone + 1] = all[i]
      else
        used = used + tonumber(all[i + 1])
        if not oldest or ends < oldest then oldest = ends end
        if not newest or ends > newest then newest = ends end
      end
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if newest then redis.call('HSET', key, 'u', used, 'o', name(oldest), 'n', name(newest))
  else redis.call('HDEL', key, 'u', 'o', 'n') end
  return used, oldest, newest
end

-- Frees what dead replicas held; gives reserved, and when the next may lapse.
local function lapse(key)
  local all = redis.call('HGETALL', key)
  local amounts, ends, reserved, first, gone = {}, {}, 0, nil, {}
  for i = 1, #all, 2 do
    local kind = string.sub(all[i], 1, 2)
    if kind == 'r:' then amounts[string.sub(all[i], 3)] = tonumber(all[i + 1])
    elseif kind == 'x:' then ends[string.sub(all[i], 3)] = tonumber(all[i + 1]) end
  end
  for id, amount in pairs(amounts) do
    if (ends[id] or 0) <= now then
      gone[#gone + 1] = 'r:' .. id
      gone[#gone + 1] = 'x:' .. id
    else
      reserved = reserved + amount
      if not first or ends[id] < first then first = ends[id] end
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if first then redis.call('HSET', key, 'r', reserved, 'x', name(first))
  else redis.call('HDEL', key, 'r', 'x') end
  return reserved, first
end

-- A counter as it stands now, where window is not 0 with the amount of the slot that now lies in.
local function read(key, window, slots)
  local ends = 0
  if window > 0 then ends = slotEnd(window, slots) end
  local f = redis.call('HMGET', key, 'u', 'o', 'n', 'r', 'x', 't', 'r:' .. me, name(ends))
  local c = {
    ends = ends, used = tonumber(f[1]) or 0, oldest = tonumber(f[2]), newest = tonumber(f[3]),
    reserved = tonumber(f[4]) or 0, first = tonumber(f[5]), expires = tonumber(f[6]),
    mine = tonumber(f[7]) or 0, amount = tonumber(f[8]) or 0
  }
  if window > 0 and c.oldest and c.oldest <= now - window then
    c.used, c.oldest, c.newest = slide(key, window)
  end
  if c.first and c.first <= now then
    c.reserved, c.first = lapse(key)
    c.mine = tonumber(redis.call('HGET', key, 'r:' .. me)) or 0
  end
  return c
end

-- Writes the fields in set; the key outlives its window and what is held by as long as a lease.
local function write(key, window, c, set)
  local life = 0
  if c.newest and window > 0 then life = c.newest + window end
  if c.reserved > 0 and now + ttl > life then life = now + ttl end
  if life > 0 and (not c.expires or c.expires < life) then
    c.expires = life + ttl
    set[#set + 1] = 't'
    set[#set + 1] = name(c.expires)
    set[#set + 1] = 'w'
    set[#set + 1] = window
    redis.call('HSET', key, unpack(set))
    redis.call('PEXPIREAT', key, name(c.expires))
  elseif #set > 0 then
    redis.call('HSET', key, unpack(set))
  end
end
`;

/**
 * ARGV after the common three, for each key: limit, windowMs, slots, cost, reserve. Replies
 * [index of the refusing claim or -1 (or -2: too late), now, retryAfterMs, then for each key: used, reserved, end of
 * the newest slot, end of the slot that the cost is in].
 */
export const TAKE = defineScript(`${COMMON}
local counters, refused = {}, -1
for i = 1, #KEYS do
  local a = 3 + (i - 1) * 5
  local c = read(KEYS[i], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]))
  counters[i] = c
  if refused < 0 and c.used + c.reserved + ARGV[a + 4] + ARGV[a + 5] > tonumber(ARGV[a + 1]) then refused = i - 1 end
end

local retry = 0
if refused >= 0 then
  -- Until enough slots have left; 0 where that is not enough.
  local c, a = counters[refused + 1], 3 + refused * 5
  local window = tonumber(ARGV[a + 2])
  local excess = c.used + c.reserved + ARGV[a + 4] + ARGV[a + 5] - ARGV[a + 1]
  if window > 0 and excess <= c.used then
    local all, ends = redis.call('HGETALL', KEYS[refused + 1]), {}
    local amounts = {}
    for i = 1, #all, 2 do
      local at = tonumber(all[i])
      if at then
        ends[#ends + 1] = at
        amounts[at] = tonumber(all[i + 1])
      end
    end
    table.sort(ends)
    for _, at in ipairs(ends) do
      excess = excess - amounts[at]
      if excess <= 0 then
        retry = at + window - now
        break
      end
    end
  end
end

local reply = {refused, now, retry}
for i = 1, #KEYS do
  local a, key, c = 3 + (i - 1) * 5, KEYS[i], counters[i]
  local window, cost, reserve = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5])
  local slot = 0
  if refused < 0 then
    local set = {}
    if cost > 0 and window > 0 then
      slot = c.ends
      -- The window was edited: the newest slot ends later than one of the new length would, and takes both.
      if c.newest and c.newest > slot then
        slot = c.newest
        c.amount = tonumber(redis.call('HGET', key, name(slot))) or 0
      end
      c.used = c.used + cost
      set = {'u', c.used, name(slot), c.amount + cost}
      if slot ~= c.newest then
        c.newest = slot
        set[5] = 'n'
        set[6] = name(slot)
        if not c.oldest then
          set[7] = 'o'
          set[8] = name(slot)
        end
      end
    end
    if reserve > 0 then
      c.reserved = c.reserved + reserve
      local n = #set
      set[n + 1] = 'r'
      set[n + 2] = c.reserved
      set[n + 3] = 'r:' .. me
      set[n + 4] = c.mine + reserve
      set[n + 5] = 'x:' .. me
      set[n + 6] = name(now + ttl)
      if not c.first then
        set[n + 7] = 'x'
        set[n + 8] = name(now + ttl)
      end
    end
    if #set > 0 then write(key, window, c, set) end
  end
  local n = #reply
  reply[n + 1] = c.used
  reply[n + 2] = c.reserved
  reply[n + 3] = c.newest or 0
  reply[n + 4] = slot
end
return reply`);

/**
 * ARGV after the common three, for each key: windowMs, slots, held (all that this replica holds; -1: not said), free
 * (what it holds less), count, and so many pairs of slot end and amount: booked there (0: now), or given back where
 * it is negative. Replies [0 or -2, now].
 */
export const SYNC = defineScript(`${COMMON}
local a = 4
for i = 1, #KEYS do
  local key, window = KEYS[i], tonumber(ARGV[a])
  local held, free, count = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local c = read(key, window, tonumber(ARGV[a + 1]))
  local set, booked, amounts = {}, 0, {[c.ends] = c.amount}
  for j = 1, count do
    local at, amount = tonumber(ARGV[a + 3 + 2 * j]), tonumber(ARGV[a + 4 + 2 * j])
    if amount > 0 and (at == 0 or at > c.ends) then at = c.ends end
    if window > 0 and at > now - window then
      local before = amounts[at] or tonumber(redis.call('HGET', key, name(at))) or 0
      local after = math.max(0, before + amount)
      if after ~= before then
        amounts[at] = after
        set[#set + 1] = name(at)
        set[#set + 1] = after
        booked = booked + after - before
        if not c.newest or at > c.newest then
          c.newest = at
          set[#set + 1] = 'n'
          set[#set + 1] = name(at)
        end
        if not c.oldest or at < c.oldest then
          c.oldest = at
          set[#set + 1] = 'o'
          set[#set + 1] = name(at)
        end
      end
    end
  end
  if booked ~= 0 then
    set[#set + 1] = 'u'
    set[#set + 1] = math.max(0, c.used + booked)
  end
  if held < 0 then held = math.max(0, c.mine - free) end
  if held ~= c.mine then
    c.reserved = math.max(0, c.reserved + held - c.mine)
    set[#set + 1] = 'r'
    set[#set + 1] = c.reserved
    if held == 0 then redis.call('HDEL', key, 'r:' .. me, 'x:' .. me) end
  end
  if held > 0 then
    local n = #set
    set[n + 1] = 'r:' .. me
    set[n + 2] = held
    set[n + 3] = 'x:' .. me
    set[n + 4] = name(now + ttl)
    if not c.first then
      set[n + 5] = 'x'
      set[n + 6] = name(now + ttl)
    end
  end
  if #set > 0 then write(key, window, c, set) end
  a = a + 5 + 2 * count
end
return {0, now}`);

/** Forgets what a counter has used, keeps what is held. Replies 1, or 0 where there is no such counter. */
export const FORGET = defineScript(`
local all = redis.call('HGETALL', KEYS[1])
if #all == 0 then return 0 end
local gone = {'u', 'o', 'n'}
for i = 1, #all, 2 do
  if tonumber(all[i]) then gone[#gone + 1] = all[i] end
end
redis.call('HDEL', KEYS[1], unpack(gone))
return 1`);
