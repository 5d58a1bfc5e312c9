-- The models of live workers.
return redis.call('ZRANGEBYSCORE', SERVED, NOW, '+inf')
