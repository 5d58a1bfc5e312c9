-- An image is done, if this attempt at it is the current one.
local model, nonce = unpack(ARGV)
local claim = drop(model, nonce)
if not claim then return 0 end
local id = claim.job.id
redis.call('SETBIT', job_key(id, 'done'), claim.index, 1)
redis.call('HDEL', job_key(id, 'deaths'), claim.index)
if tonumber(claim.attempt) > 1 then redis.call('HSET', job_key(id, 'attempts'), claim.index, claim.attempt) end
local _, _, shunned = trouble_with(hget(job_key(id, 'troubles'), claim.index))
if shunned and shunned ~= claim.worker then
  redis.call('INCR', outdone_key(shunned))
  redis.call('PEXPIRE', outdone_key(shunned), ORDERS)
end
end_with(claim, 'done')
return 1
