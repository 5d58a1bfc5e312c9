-- A tenant's jobs that have changed after `after` (ms; 0: from now on), about `limit` of them, the oldest changes first.
-- Returns the time up to which these are complete, whether none is missing, and for each its id and, if it still exists,
-- its standing. Changes in the current millisecond are left for the next call: there may be more.
local tenant, after, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = NOW - 1
if after == 0 then return {last, 1, {}} end
if after < NOW - CHANGES or after > NOW then return {last, 0, {}} end
local changed, from = changed_key(tenant), string.format('(%.0f', after)
local at_limit = redis.call('ZRANGEBYSCORE', changed, from, last, 'WITHSCORES', 'LIMIT', limit - 1, 1)[2]
if at_limit then last = tonumber(at_limit) end
local answers = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', changed, from, last)) do
  local job = owned(tenant, id)
  answers[#answers + 1] = job and {id, standing(job)} or {id}
end
return {math.max(last, after), 1, answers}
