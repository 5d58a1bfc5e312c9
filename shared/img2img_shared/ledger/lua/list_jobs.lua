-- The standings of a tenant's jobs, newest first: at most `limit`, after `after` ('created id'; '': from the newest).
-- Returns where to continue ('' at the end), and the jobs, without forgotten ones.
local tenant, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local listed = tenant_key(tenant)
local rank = 0
if after ~= '' then
  local created, id = string.match(after, '^(%d+) (%S+)$')
  rank = redis.call('ZREVRANK', listed, id)
  -- it was forgotten meanwhile: continue with the newest that may follow it
  rank = rank and rank + 1 or redis.call('ZCOUNT', listed, '(' .. created, '+inf')
end
local found = redis.call('ZREVRANGE', listed, rank, rank + limit - 1, 'WITHSCORES')
local answers = {}
for i = 1, #found, 2 do
  local job = read(found[i]) or load(found[i])
  if job then
    answers[#answers + 1] = standing(job)
  else
    redis.call('ZREM', listed, found[i])
    forget(found[i])
  end
end
local next = ''
if #found == 2 * limit then next = string.format('%.0f %s', found[#found], found[#found - 1]) end
return {next, answers}
