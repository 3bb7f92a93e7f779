-- Prolong this drain's life and its leases; answers the tokens that are no longer good.
local queue, drain, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('ZADD', key('drains', queue), now + tonumber(ARGV[4]), drain)
local lost = {}
for n = 5, #ARGV, 2 do
	local lane, token = ARGV[n], ARGV[n + 1]
	if redis.call('HGET', key('held', queue), lane) == token then
		redis.call('ZADD', key('lanes', queue), 'XX', now + lease_ms, lane)
	else
		lost[#lost + 1] = token
	end
end
return lost
