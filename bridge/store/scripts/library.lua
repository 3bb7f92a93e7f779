-- What every script begins with. House rules: time is the store's clock, in milliseconds; a script checks
-- everything before its first write, because Lua does not roll back; keys are made here and in keys.py only.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(name, queue, lane)
	return 'ib:' .. name .. ':' .. queue .. (lane and (':' .. lane) or '')
end

-- How many drains of this queue live (or are about to: a reservation counts).
local function drains_alive(queue)
	return redis.call('ZCOUNT', key('drains', queue), '(' .. now, '+inf')
end

-- A bell is a hint for drains that linger; losing one costs time, never an item.
local function ring(queue)
	redis.call('ZADD', key('bell', queue), 'NX', 0, '*')
end

-- Whether a job must be enqueued for this queue; if so, the drain counts as alive until `reserve_ms` from now,
-- so that two callers do not both enqueue one. `list` is RQ's own list of waiting jobs.
local function reserve(queue, list, drain, reserve_ms)
	if drains_alive(queue) > 0 or redis.call('LLEN', list) > 0 then return false end
	redis.call('ZREMRANGEBYSCORE', key('drains', queue), '-inf', now)
	redis.call('ZADD', key('drains', queue), now + reserve_ms, drain)
	return true
end

-- Append one item; the lane may be taken at once unless it is leased or paused already.
local function append(queue, lane, item)
	redis.call('RPUSH', key('lane', queue, lane), item)
	redis.call('ZADD', key('lanes', queue), 'NX', now, lane)
	if tonumber(redis.call('ZSCORE', key('lanes', queue), lane)) <= now then ring(queue) end
end

-- Take the lease off a lane; without items the lane ceases to exist.
local function give_back(queue, lane, delay_ms)
	redis.call('HDEL', key('held', queue), lane)
	if redis.call('LLEN', key('lane', queue, lane)) == 0 then
		redis.call('ZREM', key('lanes', queue), lane)
		redis.call('HDEL', key('tries', queue), lane)
	else
		redis.call('ZADD', key('lanes', queue), 'XX', now + delay_ms, lane)
		if delay_ms == 0 then ring(queue) end
	end
end
