-- Announces a worker's textual inversions, and which of them prompts for its model can use.
local worker, data, kept, model = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
redis.call('SET', worker_key(worker) .. ':inversions', data, 'EX', kept)
local named = model_key(model, 'inversions')
for i = 5, #ARGV do redis.call('ZADD', named, NOW + 1000 * kept, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', named, '-inf', NOW)
redis.call('EXPIRE', named, kept)
return 1
