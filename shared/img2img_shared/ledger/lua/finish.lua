-- Reports that an image is done, if this attempt is the current one. The job of its tiles, if there was one, is removed.
local model, nonce, tiles = unpack(ARGV)
if tiles then expect('zset', REMOVED) end
local claim = drop(model, nonce)
if not claim then return 0 end
local id = claim.job.id
redis.call('SETBIT', job_key(id, 'done'), claim.index, 1)
redis.call('HDEL', job_key(id, 'deaths'), claim.index)
if tonumber(claim.attempt) > 1 then redis.call('HSET', job_key(id, 'attempts'), claim.index, claim.attempt) end
local _, _, shunned = trouble_with(hget(job_key(id, 'troubles'), claim.index))
end_with(claim, 'done')
local parts = tiles and load(tiles)
if parts and parts.finished then
  redis.call('SREM', job_key(id, 'parts'), tiles)
  remove(parts)
end
if shunned and shunned ~= claim.worker then
  redis.call('INCR', outdone_key(shunned))
  redis.call('PEXPIRE', outdone_key(shunned), ORDERS)
end
return 1
