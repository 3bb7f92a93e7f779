-- Give a lane back, to be taken again after a delay; ARGV[5] = '1' forgets its tries. 0: somebody else has it.
local queue, lane, token = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', key('held', queue), lane) ~= token then return 0 end
if ARGV[5] == '1' then redis.call('HDEL', key('tries', queue), lane) end
give_back(queue, lane, tonumber(ARGV[4]))
return 1
