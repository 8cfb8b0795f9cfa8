-- The requests of wrk. Every booking is a new pair of person and event, because a person has one
-- active booking per event. Pair i of a thread is computed from i alone, so nothing is stored.
--
-- BENCH_MODE     book | types | keyed | customers | holds | read | mix | greet
-- BENCH_PEOPLE   file with a line "id token" per person
-- BENCH_EVENT    id of the first event; the next ones follow without a gap
-- BENCH_TYPES    ids of the ticket types of all events in order, two for each, in modes `types` and `holds`
-- BENCH_QUANTITY  places of a booking, in modes `types` and `holds`
-- BENCH_AT_ONCE  events that are booked at the same time; when every person has booked each of
--                them, the next group of as many events is taken
-- BENCH_CONNECTIONS  connections that wrk holds open
-- BENCH_LIMIT    requests after which to stop, 0 for no limit
-- BENCH_OUT      file for the result, in JSON

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int signal);")
local SIGINT = 2

local mode = os.getenv("BENCH_MODE")
local first_event = tonumber(os.getenv("BENCH_EVENT"))
local at_once = tonumber(os.getenv("BENCH_AT_ONCE"))
local limit = tonumber(os.getenv("BENCH_LIMIT"))
local types_of = {}
for id in os.getenv("BENCH_TYPES"):gmatch("%d+") do
   table.insert(types_of, id)
end
local quantity = os.getenv("BENCH_QUANTITY")

-- Cancels follow this many bookings behind, so that bookings have a response before they are cancelled.
local behind = 4 * tonumber(os.getenv("BENCH_CONNECTIONS"))

local threads = {}
local ids, heads, person_of = {}, {}, {}
local people, stride = 0, 0

booked, cancelled, read = 0, 0, 0

function setup(thread)
   table.insert(threads, thread)
end

function init(_)
   for line in io.lines(os.getenv("BENCH_PEOPLE")) do
      local id, token = line:match("^(%S+) (%S+)$")
      people = people + 1
      ids[people] = id
      person_of[id] = people
      heads[people] = " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " .. token .. "\r\n"
   end
   stride = math.max(1, math.floor(people / at_once))
end

local function post(path, i, more, lines)
   local group = math.floor(i / (at_once * people))
   local rest = i % (at_once * people)
   local slot = rest % at_once
   local person = (math.floor(rest / at_once) + slot * stride) % people + 1
   local event = first_event + group * at_once + slot
   local body = '{"eventId":' .. event .. ',"userId":"' .. ids[person] .. '"'
   if lines then
      local kind = types_of[2 * (event - first_event) + i % 2 + 1]
      body = body .. ',"lines":[{"ticketTypeId":' .. kind .. ',"quantity":' .. quantity .. "}]"
   end
   body = body .. "}"
   return "POST " .. path .. heads[person]
      .. (more or "") .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local function book()
   local text = post("/api/events/book", booked)
   booked = booked + 1
   return text
end

local function types()
   local text = post("/api/events/book", booked, nil, true)
   booked = booked + 1
   return text
end

-- Each booking is a new request with its own key.
local function keyed()
   local text = post("/api/events/book", booked, "Idempotency-Key: booking-" .. first_event .. "-" .. booked .. "\r\n")
   booked = booked + 1
   return text
end

-- The owner of the events, who is the first person, books each time for a new customer.
local function customers()
   local event = first_event + math.floor(booked / people)
   local id = "customer-" .. first_event .. "-" .. booked
   local body = '{"eventId":' .. event .. ',"customer":{"externalId":"' .. id
      .. '","name":"Ada Lovelace","email":"' .. id .. '@example.org"}}'
   booked = booked + 1
   return "POST /api/events/book" .. heads[1]
      .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local function get()
   local event = first_event + read % at_once
   read = read + 1
   return "GET /api/events/" .. event .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"
end

local step = 0

local function mix()
   step = step + 1
   local turn = step % 20
   -- Never the first pair, because wrk makes one request that it does not send.
   local next = 5 * (cancelled + 1)
   if turn == 0 and booked > behind + next then
      cancelled = cancelled + 1
      return post("/api/events/cancel", next)
   elseif turn % 4 == 1 then
      return book()
   end
   return get()
end

-- Each hold is confirmed on the connection that is free first.
local held = {}

local function holds()
   local hold = table.remove(held)
   if hold == nil then
      local text = post("/api/holds", booked, nil, true)
      booked = booked + 1
      return text
   end
   read = read + 1
   return "POST /api/holds/" .. hold.id .. "/confirm" .. heads[hold.person]
      .. "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
end

-- wrk reads responses only if this function exists.
if mode == "holds" then
   function response(status, _, body)
      if status == 201 then
         table.insert(held, { id = body:match('"id":"([^"]+)"'), person = person_of[body:match('"userId":"([^"]+)"')] })
      end
   end
end

-- Authenticates, and is refused before the database is used.
local function greet()
   read = read + 1
   return "GET /api/users/me/bookings?cursor=no" .. heads[read % people + 1] .. "\r\n"
end

local modes = { book = book, types = types, keyed = keyed, customers = customers, holds = holds, read = get, mix = mix, greet = greet }

function request()
   if limit > 0 and booked + cancelled + read >= limit then
      wrk.thread:stop()
      -- wrk's main thread sleeps until the end of the test, unless it is interrupted.
      ffi.C.kill(ffi.C.getpid(), SIGINT)
   end
   return modes[mode]()
end

local function total(name)
   local sum = 0
   for _, thread in ipairs(threads) do
      sum = sum + thread:get(name)
   end
   return sum
end

function done(summary, latency, _)
   local out = io.open(os.getenv("BENCH_OUT"), "w")
   local errors = summary.errors
   local fields = {
      seconds = summary.duration / 1e6,
      answers = summary.requests,
      refused = errors.status,
      broken = errors.connect + errors.read + errors.write,
      sent_books = total("booked"),
      sent_cancels = total("cancelled"),
      sent_reads = total("read"),
      p50 = latency:percentile(50) / 1e3,
      p90 = latency:percentile(90) / 1e3,
      p99 = latency:percentile(99) / 1e3,
      worst = latency.max / 1e3,
   }
   local parts = {}
   for key, value in pairs(fields) do
      table.insert(parts, string.format('"%s":%.3f', key, value))
   end
   out:write("{" .. table.concat(parts, ",") .. "}\n")
   out:close()
end
