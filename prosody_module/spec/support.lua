-- Loads the module's libraries as Prosody does, and a relay in a small world of its own.

pcall(require, "loader"); -- COMPAT: Prosody 13's libraries call each other prosody.util.x

local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";

local support = { root = here .. "/../.." };

function support.library(name)
	return dofile(here .. "/../mod_incident_bridge/" .. name .. ".lib.lua");
end

local json = require "util.json";
local st = require "util.stanza";

local xmlns = "urn:xmpp:incident:2";
local stream = { direction = "incoming", encrypted = true, authentication = "certificate" };

-- A world where time stands still until `pass` is called and every request waits for `answer`.
local world_methods = {};
local world_mt = { __index = world_methods };

function support.new_world(options)
	options = options or {};
	local world = setmetatable({
		time = 1000, unix = 1795302600, timers = {}, requests = {}, sent = {}, counted = {}, logged = {}, statuses = {};
	}, world_mt);
	local ids = 0;
	world.deps = {
		queue = support.library("fair_queue").new(options.max_queued or 64);
		refusals = support.library("refusals");
		now = function () return world.time; end;
		clock = function () return world.unix; end;
		new_id = function () ids = ids + 1; return "id-" .. ids; end;
		timer = function (seconds, callback)
			table.insert(world.timers, { at = world.time + seconds, callback = callback });
		end;
		post = function (id, body, seconds, callback)
			local request = { id = id, body = json.decode(body), text = body, seconds = seconds, callback = callback };
			if options.post then options.post(request); end
			table.insert(world.requests, request);
			return function () request.is_cancelled = true; end;
		end;
		send = function (stanza) table.insert(world.sent, stanza); end;
		log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
		status = function (level) table.insert(world.statuses, level); end;
		count = function (kind, outcome) table.insert(world.counted, kind .. " " .. outcome); end;
		count_request = function () end;
		waiting = function (number) world.waiting = number; end;
	};
	world.limits = { timeout = 5, max_stanza_bytes = options.max_stanza_bytes or 131072 };
	world.relay = support.library("relay").new(world.deps, world.limits, options.problem);
	return world;
end

function support.iq(type, id, from, kind)
	local stanza = st.stanza("iq", { type = type, id = id, from = from, to = "a.test" });
	if type == "get" or type == "set" then stanza:tag(kind or "report", { xmlns = xmlns }):up(); end
	return stanza;
end

function world_methods:report(id, from)
	from = from or "b.test";
	self.relay:receive(support.iq("set", id, from), "report", stream, from);
end

function world_methods:result(id, from)
	self.relay:receive(support.iq("result", id, from or "b.test"), "result", stream, from or "b.test");
end

function world_methods:pass(seconds)
	self.time = self.time + seconds;
	local due = self.timers;
	self.timers = {};
	for _, timer in ipairs(due) do
		if timer.at <= self.time then timer.callback(); else table.insert(self.timers, timer); end
	end
end

-- The ids of the IQs in the newest request, in order.
function world_methods:ids()
	local ids = {};
	for i, item in ipairs(self.requests[#self.requests].body.data.items) do
		ids[i] = item.stanza:match("id='([^']*)'");
	end
	return table.concat(ids, " ");
end

-- Answers the newest request: with 200 and {} for each item, or as told.
function world_methods:answer(code, content)
	local request = self.requests[#self.requests];
	if not content and (code or 200) == 200 then
		local results = {};
		for i = 1, #request.body.data.items do results[i] = "{}"; end
		content = '{"results":[' .. table.concat(results, ",") .. "]}";
	end
	request.callback(code or 200, content or "");
end

-- What was sent to the peer with this IQ id, like "wait/resource-constraint", in order.
function world_methods:answers_to(id)
	local found = {};
	for _, stanza in ipairs(self.sent) do
		if stanza.attr.id == id then
			local type, condition = stanza:get_error();
			found[#found + 1] = type .. "/" .. condition;
		end
	end
	return table.concat(found, " ");
end

return support;
