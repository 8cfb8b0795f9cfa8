-- Scans at the door, for wrk. Each line of the file is the text of a code, and is scanned in turn.
--
-- BENCH_CODES    file with a code per line
-- BENCH_TOKEN    token of the event's owner
-- BENCH_EVENT    id of the event
-- BENCH_ROUND    number of the round, so that no scan has the id of an earlier one
-- BENCH_THREADS  threads of wrk
-- BENCH_OUT      file for the result, in JSON

local path = "/api/events/" .. os.getenv("BENCH_EVENT") .. "/check-ins"
local head = "POST " .. path .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
   .. os.getenv("BENCH_TOKEN") .. "\r\nContent-Type: application/json\r\nContent-Length: "
local round = tonumber(os.getenv("BENCH_ROUND"))
local stride = tonumber(os.getenv("BENCH_THREADS"))

local threads = {}
local codes = {}
local count = 0
admitted, refused, broken = 0, 0, 0

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(_)
   for line in io.lines(os.getenv("BENCH_CODES")) do
      table.insert(codes, line)
   end
end

function request()
   local place = count * stride + number
   count = count + 1
   local code = codes[place % #codes + 1]
   local id = string.format("01993800-%04x-7000-8000-%012x", round, place)
   local body = '{"scanId":"' .. id .. '","code":"' .. code .. '","gate":"' .. number .. '"}'
   return head .. #body .. "\r\n\r\n" .. body
end

function response(status, _, body)
   if status ~= 200 then
      broken = broken + 1
   elseif body:find('"verdict":"admitted"', 1, true) then
      admitted = admitted + 1
   else
      refused = refused + 1
   end
end

function done(summary, latency, _)
   local sums = { admitted = 0, refused = 0, broken = 0 }
   for _, thread in ipairs(threads) do
      for name, sum in pairs(sums) do
         sums[name] = sum + thread:get(name)
      end
   end
   local out = io.open(os.getenv("BENCH_OUT"), "w")
   out:write(string.format(
      '{"seconds":%f,"admitted":%d,"refused":%d,"broken":%d,"p50":%f,"p99":%f}',
      summary.duration / 1e6, sums.admitted, sums.refused, sums.broken,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
   out:close()
end
