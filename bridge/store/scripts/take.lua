-- Lease lanes that may be taken, oldest first.
-- A lane whose worker died is tried with one item, and from try `alone_from` on with no other lane beside it:
-- then only while this drain is idle; the walk stops in front of such a lane, so that it cannot be starved.
local queue, drain = ARGV[1], ARGV[2]
local lease_ms, alive_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local max_lanes, max_items, lane_items = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local alone_from, is_idle = tonumber(ARGV[8]), ARGV[9] == '1'

local alive_until = redis.call('ZSCORE', key('drains', queue), drain)
if not alive_until or tonumber(alive_until) < now + alive_ms / 2 then
	redis.call('ZADD', key('drains', queue), now + alive_ms, drain)
end
local lanes = redis.call('ZRANGEBYSCORE', key('lanes', queue), '-inf', now, 'LIMIT', 0, max_lanes + 1)
local taken, items_taken, walked, is_alone = {}, 0, 0, 0
for n = 1, math.min(#lanes, max_lanes) do
	if items_taken >= max_items or is_alone == 1 then break end
	local lane = lanes[n]
	local tries = tonumber(redis.call('HGET', key('tries', queue), lane) or '0') + 1
	if tries >= alone_from then
		if #taken > 0 or not is_idle then break end
		is_alone = 1
	end
	local items = redis.call('LRANGE', key('lane', queue, lane), 0, (tries > 1 and 1 or lane_items) - 1)
	walked = n
	if #items == 0 then
		give_back(queue, lane, 0)
	else
		-- With the time, because a replica that becomes the primary may not have had the last number.
		local token = string.format('%d.%d:', redis.call('INCR', 'ib:fence'), now) .. drain
		redis.call('HSET', key('held', queue), lane, token)
		redis.call('HSET', key('tries', queue), lane, tries)
		redis.call('ZADD', key('lanes', queue), now + lease_ms, lane)
		taken[#taken + 1] = {lane, token, tries, items}
		items_taken = items_taken + #items
	end
end
local more = #lanes > walked and 1 or 0
if more == 0 then redis.call('DEL', key('bell', queue)) elseif #taken > 0 then ring(queue) end
return {more, is_alone, taken}
