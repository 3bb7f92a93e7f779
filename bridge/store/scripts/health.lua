-- For each queue named: ms since a worker was seen (-1: never), lanes, items (of the first 1000 lanes),
-- ms for which the oldest lane has been waiting to be taken (-1: none waits).
local answer = {}
for n, queue in ipairs(ARGV) do
	local seen = redis.call('ZREVRANGE', key('workers', queue), 0, 0, 'WITHSCORES')[2]
	local first = redis.call('ZRANGEBYSCORE', key('lanes', queue), '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)[2]
	local items = 0
	for _, lane in ipairs(redis.call('ZRANGE', key('lanes', queue), 0, 999)) do
		items = items + redis.call('LLEN', key('lane', queue, lane))
	end
	answer[n] = {
		seen and now - tonumber(seen) or -1,
		redis.call('ZCARD', key('lanes', queue)),
		items,
		first and now - tonumber(first) or -1,
	}
end
return answer
