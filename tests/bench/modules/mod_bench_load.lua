-- mod_bench_load: POST /bench/load {to, payload, run, count, concurrency} keeps `concurrency` IQs in flight until `count`
-- are answered; answers {seconds, latencies, results, errors}. Each IQ is the payload with @ID@ replaced by its number.
-- What goes out is written as text into the established stream, so that the sender is not what is measured.
local json = require "util.json";
local array = require "util.array";
local now = require "util.time".now;

local run;

local function send_next()
	run.sent = run.sent + 1;
	local id = run.name .. "-" .. run.sent;
	local session = prosody.hosts[module.host].s2sout[run.to];
	run.started_at[id] = now();
	session.sends2s("<iq type='set' id='" .. id .. "' from='" .. module.host .. "' to='" .. run.to .. "'>"
		.. run.before .. id .. run.after .. "</iq>");
end

local function finish()
	local done, response = run, run.response;
	run = nil;
	response.headers.content_type = "application/json";
	response:send(json.encode({
		seconds = now() - done.began_at; latencies = done.latencies; results = done.results; errors = done.errors;
	}));
end

local function answered(event)
	local stanza = event.stanza;
	local kind = stanza.attr.type;
	if not run or (kind ~= "result" and kind ~= "error") then return; end
	local started = run.started_at[stanza.attr.id];
	if not started then return; end
	run.started_at[stanza.attr.id] = nil;
	run.latencies:push(now() - started);
	if kind == "result" then run.results = run.results + 1; else run.errors = run.errors + 1; end
	if run.results + run.errors == run.count then
		finish();
	elseif run.sent < run.count then
		send_next();
	end
	return true;
end
module:hook("iq/host", answered, 2000);

local function load(event)
	local wanted = json.decode(event.request.body);
	local before, after = wanted.payload:match("^(.-)@ID@(.*)$");
	run = {
		name = wanted.run; to = wanted.to; count = wanted.count; before = before; after = after; response = event.response;
		sent = 0; results = 0; errors = 0; latencies = array(); started_at = {}; began_at = now();
	};
	for _ = 1, math.min(wanted.concurrency, wanted.count) do send_next(); end
	return true;
end

module:depends("http");
module:provides("http", { name = "bench"; default_path = "/bench"; route = { ["POST /load"] = load } });
