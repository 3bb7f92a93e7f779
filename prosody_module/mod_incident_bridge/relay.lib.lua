-- The way of an incident IQ to the bridge: wait in turn, travel in a batch, get one answer.

local cache = require "util.cache";
local json = require "util.json";
local st = require "util.stanza";

local max_batch_items = 64;
local max_body_bytes = 1024 * 1024;
local envelope_bytes = 256; -- what is around the items, generously
local max_reply_bytes = 131072; -- even if JSON makes six of each, it fits into a body
local max_remembered = 1000;
local max_refused_peers = 1000;
local max_refusal_seconds = 3600;
local log_again_seconds = 60;

local kind_types = { report = "set", inquiry = "get", request = "get", response = "set" };
local stanza_error_xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas";
local error_types = { auth = true, cancel = true, continue = true, modify = true, wait = true };

local relay_methods = {};
local relay_mt = { __index = relay_methods };

-- deps: queue, refusals; now() -> seconds that only grow, clock() -> Unix seconds; new_id();
-- timer(seconds, callback); post(id, body, seconds, callback(code, answer)) -> cancel(); send(stanza);
-- log(level, text, ...); status(level, text); count(kind, outcome); count_request(outcome); waiting(number).
-- limits: timeout (seconds), max_stanza_bytes. problem: why nothing can be relayed, or nil.
local function new(deps, limits, problem)
	return setmetatable({
		deps = deps;
		limits = limits;
		problem = problem;
		refusals = deps.refusals;
		queue = deps.queue;
		flight = nil; -- the one request under way: id, body, items, cancel
		open = {}; -- (from, id) -> the items not yet answered, oldest first
		by_age = { first = 1, last = 0 }; -- every item from arrival until it needs no timer
		answered = cache.new(max_remembered); -- (from, id) of what this module answered instead of the bridge
		refused = cache.new(max_refused_peers); -- domain -> until when
		trouble = nil; -- what was last logged about the bridge
		arrivals = 0; -- items so far; the newest item's number
		stopped = false;
	}, relay_mt);
end

local function key_of(jid, id)
	return jid .. "\0" .. id;
end

local function count_waiting(relay)
	return relay.queue.count + (relay.flight and #relay.flight.items or 0);
end

local function send_refusal(relay, head, refusal, name)
	local stanza = st.stanza(name or "iq", { from = head.from, to = head.to, id = head.id, type = head.type });
	relay.deps.send(st.error_reply(stanza, refusal.type, refusal.condition, refusal.text));
end

-- Nobody waits for this item any longer.
local function close(relay, item)
	item.is_answered = true;
	local open = relay.open[item.key];
	if not open then return; end
	for i = #open, 1, -1 do
		if open[i] == item then table.remove(open, i); end
	end
	if not open[1] then relay.open[item.key] = nil; end
end

local function is_question(item)
	return item.type == "get" or item.type == "set";
end

-- Answers an item, unless it was answered already; a result or an error of a peer gets no answer.
-- A person whose message could not be kept sees that it was not delivered.
local function refuse(relay, item, refusal)
	if item.is_answered then return; end
	close(relay, item);
	relay.deps.count(item.kind, refusal.outcome or "refused_by_bridge");
	if item.kind == "message" then return send_refusal(relay, item, refusal, "message"); end
	if not is_question(item) then return; end
	if item.was_sent then relay.answered:set(item.key, true); end
	send_refusal(relay, item, refusal);
end

-- An item leaves the memory as soon as it has left the queue and the request.
local function finish(item)
	item.is_finished = true;
	item.json = nil;
end

local function forget_finished(relay)
	local ages = relay.by_age;
	while ages.first <= ages.last and ages[ages.first].is_finished do
		ages[ages.first] = nil;
		ages.first = ages.first + 1;
	end
end

local function remember_age(relay, item)
	local ages = relay.by_age;
	ages.last = ages.last + 1;
	ages[ages.last] = item;
end

-- Answers everything that has waited too long, in the queue or in the request.
local function expire(relay)
	local ages, now = relay.by_age, relay.deps.now();
	while ages.first <= ages.last and (ages[ages.first].is_finished or ages[ages.first].deadline <= now) do
		local item = ages[ages.first];
		ages[ages.first] = nil;
		ages.first = ages.first + 1;
		if not item.is_finished then
			refuse(relay, item, relay.refusals.unreachable);
			if relay.queue:remove_oldest(item) then finish(item); end
		end
	end
	relay.deps.waiting(count_waiting(relay));
end

local function watch(relay)
	local ages = relay.by_age;
	if relay.is_watching or relay.stopped or ages.first > ages.last then return; end
	relay.is_watching = true;
	local seconds = math.max(0, ages[ages.first].deadline - relay.deps.now()) + 0.01;
	relay.deps.timer(seconds, function ()
		relay.is_watching = false;
		if relay.stopped then return; end
		expire(relay);
		relay:pump();
		watch(relay);
	end);
end

local function body_of(relay, items)
	local texts = {};
	for i, item in ipairs(items) do texts[i] = item.json; end
	return ('{"type":"stanza.received","timestamp":"%s","data":{"items":[%s]}}'):format(
		os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(relay.deps.clock())), table.concat(texts, ","));
end

-- Says once what is wrong, and again only when it changes or a minute has passed.
local function report_trouble(relay, text)
	local now = relay.deps.now();
	local last = relay.trouble;
	if last and last.text == text and now - last.at < log_again_seconds then return; end
	relay.trouble = { text = text, at = now };
	relay.deps.log("error", "%s", text);
	if not last or last.text ~= text then relay.deps.status("error", text); end
end

local function report_success(relay)
	if not relay.trouble then return; end
	relay.trouble = nil;
	relay.deps.log("info", "The incident bridge answers again");
	relay.deps.status("core", "Relaying incidents");
end

local function describe_failure(relay, code, answer)
	if code == 0 then
		return ("The incident bridge does not answer (%s): start it, or correct incident_bridge_url"):format(tostring(answer));
	end
	local details = json.decode(answer or "");
	if type(details) ~= "table" then details = {}; end
	if code == 401 and type(details.now) == "number" then
		return ("The incident bridge refuses our requests because its clock is %d seconds from ours: set the clocks of both machines")
			:format(math.floor(details.now - relay.deps.clock()));
	elseif code == 401 then
		return "The incident bridge refuses our signature: give incident_bridge_secret and the bridge's secret for this host"
			.. " the same value";
	elseif code == 404 then
		return "The incident bridge does not know this host: add it to the bridge's configuration, or correct incident_bridge_url";
	elseif code >= 400 and code < 500 then
		return ("The incident bridge refuses our requests (%d: %s): compare the versions of bridge and module")
			:format(code, tostring(details.error or "no reason given"):sub(1, 200));
	end
	return ("The incident bridge answers %d: see its log"):format(code);
end

-- The stanza error that the bridge wants sent, or our own if it makes no sense.
local function read_stanza_error(relay, stanza_error)
	if type(stanza_error) ~= "table" or not error_types[stanza_error.type] or type(stanza_error.condition) ~= "string"
	or not stanza_error.condition:match("^[a-z][a-z-]*$") then
		return relay.refusals.our_fault;
	end
	local text = type(stanza_error.text) == "string" and stanza_error.text or nil;
	return { type = stanza_error.type, condition = stanza_error.condition, text = text };
end

-- What a peer wrote, as it may stand in a log.
local function harmless(text)
	return (text:sub(1, 100):gsub("[^\33-\126]", "?"));
end

-- Writes down by which id bridge, workers and webhooks know what came.
local function tell(relay, item, interaction, outcome)
	if type(interaction) ~= "string" or not interaction:match("^[%w_-]+$") then return; end
	relay.deps.log("info", "%s %s from %s is %s, interaction=%s",
		item.kind, harmless(item.id), harmless(item.from), outcome, interaction);
end

local function settle(relay, items, results)
	for i, item in ipairs(items) do
		local stanza_error = results[i].stanza_error;
		local is_refused = stanza_error ~= nil and stanza_error ~= json.null;
		tell(relay, item, results[i].interaction, is_refused and "refused" or "stored");
		if is_refused then
			refuse(relay, item, read_stanza_error(relay, stanza_error));
		elseif not item.is_answered then
			close(relay, item);
			relay.deps.count(item.kind, "stored");
		end
	end
end

local function remember_refused(relay, refuse_table)
	if type(refuse_table) ~= "table" then return; end
	for domain, seconds in pairs(refuse_table) do
		if type(domain) == "string" and type(seconds) == "number" and seconds > 0 then
			relay.refused:set(domain, relay.deps.now() + math.min(seconds, max_refusal_seconds));
		end
	end
end

local function read_answer(items, answer)
	local decoded = json.decode(answer or "");
	local results = type(decoded) == "table" and decoded.results;
	if type(results) ~= "table" or #results ~= #items then return nil; end
	for i = 1, #items do
		if type(results[i]) ~= "table" or results[i] == json.null then return nil; end
	end
	return decoded;
end

local function land(relay, flight, code, answer)
	if relay.flight ~= flight or relay.stopped then return; end
	relay.flight = nil;
	local decoded = code == 200 and read_answer(flight.items, answer);
	if decoded then
		relay.deps.count_request("ok");
		report_success(relay);
		settle(relay, flight.items, decoded.results);
		remember_refused(relay, decoded.refuse);
	else
		relay.deps.count_request(code == 0 and "unreachable" or "refused");
		report_trouble(relay, code == 200 and "The incident bridge's answer makes no sense: compare the versions of bridge and module"
			or describe_failure(relay, code, answer));
		for _, item in ipairs(flight.items) do refuse(relay, item, relay.refusals.unreachable); end
	end
	for _, item in ipairs(flight.items) do finish(item); end
	forget_finished(relay);
	relay:pump();
end

local function fly(relay, flight)
	relay.flight = flight;
	local last = flight.items[#flight.items].deadline;
	for _, item in ipairs(flight.items) do
		item.was_sent = true;
		if item.deadline > last then last = item.deadline; end
	end
	local seconds = math.max(0.01, last - relay.deps.now());
	local ok, cancel = pcall(relay.deps.post, flight.id, flight.body, seconds, function (code, answer)
		land(relay, flight, code, answer);
	end);
	if not ok then return land(relay, flight, 0, cancel); end
	flight.cancel = cancel;
end

-- Sends the next batch, unless one is under way: a single request in flight keeps the order and makes the batches.
function relay_methods:pump()
	if self.stopped then return; end
	while not self.flight do
		expire(self);
		local items = self.queue:take(max_batch_items, max_body_bytes - envelope_bytes);
		if not items[1] then break; end
		fly(self, { id = self.deps.new_id(), body = body_of(self, items), items = items });
	end
	self.deps.waiting(count_waiting(self));
end

-- What is wrong with the IQ itself, as a refusal.
local function check(relay, stanza, kind)
	local id, refusals = stanza.attr.id, relay.refusals;
	if not id or id == "" then return refusals.no_id; end
	if #id > 256 then return refusals.long_id; end
	if kind_types[kind] == "set" and stanza.attr.type ~= "set" then return refusals.not_set; end
	if kind_types[kind] == "get" and stanza.attr.type ~= "get" then return refusals.not_get; end
end

local function is_refused(relay, peer)
	local refused_until = relay.refused:get(peer);
	if not refused_until then return false; end
	if refused_until > relay.deps.now() then return true; end
	relay.refused:set(peer, nil);
	return false;
end

-- A reply as text, without what an error echoes of our own stanza: the error to a big one would be bigger still.
-- What is too big nevertheless keeps its meaning and loses the rest, for a lost reply makes the bridge ask again.
local function text_of_reply(stanza)
	local error_tag = stanza.attr.type == "error" and stanza:get_child("error");
	local short = error_tag and st.stanza("iq", stanza.attr):add_child(error_tag) or stanza;
	local text = tostring(short);
	if #text <= max_reply_bytes then return text; end
	short = st.stanza("iq", stanza.attr);
	if stanza.attr.type == "error" then
		short:tag("error", { type = "cancel" }):tag("undefined-condition", { xmlns = stanza_error_xmlns });
	end
	return tostring(short);
end

local function new_item(relay, stanza, kind, stream, peer)
	relay.arrivals = relay.arrivals + 1;
	local attr = stanza.attr;
	local stanza_text = (kind_types[kind] or kind == "message") and tostring(stanza) or text_of_reply(stanza);
	local text = json.encode({ stanza = stanza_text, stream = stream });
	return {
		number = relay.arrivals, kind = kind, peer = peer, from = attr.from, to = attr.to, id = attr.id, type = attr.type;
		key = key_of(attr.from, attr.id), json = text, bytes = #text + 1, stanza_bytes = #stanza_text;
		deadline = relay.deps.now() + relay.limits.timeout;
	};
end

local function enqueue(relay, item)
	local ok = relay.queue:push(item);
	if not ok then return nil, relay.refusals.full; end
	local open = relay.open[item.key];
	if open then open[#open + 1] = item; else relay.open[item.key] = { item }; end
	remember_age(relay, item);
	relay:pump();
	watch(relay);
	return true;
end

-- Takes an IQ in: `kind` is its payload's name, or "result" or "error", or "message" for what
-- a person wrote back; `stream` the facts for the bridge; `peer` the
-- domain it counts for. Whatever happens, a get or set gets one answer.
function relay_methods:receive(stanza, kind, stream, peer)
	local attr = stanza.attr;
	local refusal = check(self, stanza, kind);
	if refusal then return self:refuse_stanza(stanza, kind, refusal); end
	self.answered:set(key_of(attr.from, attr.id), nil);
	if self.problem then
		report_trouble(self, self.problem);
		return self:refuse_stanza(stanza, kind, self.refusals.unreachable);
	end
	if self.stopped then return self:refuse_stanza(stanza, kind, self.refusals.unreachable); end
	if kind_types[kind] and is_refused(self, peer) then
		return self:refuse_stanza(stanza, kind, self.refusals.refused);
	end
	local item = new_item(self, stanza, kind, stream, peer);
	if kind_types[kind] and item.stanza_bytes > self.limits.max_stanza_bytes or item.bytes > max_body_bytes - envelope_bytes then
		return self:refuse_stanza(stanza, kind, self.refusals.too_big);
	end
	local ok;
	ok, refusal = enqueue(self, item);
	if not ok then self:refuse_stanza(stanza, kind, refusal); end
end

-- Answers a get, a set or a message at once; a result or an error is only counted.
function relay_methods:refuse_stanza(stanza, kind, refusal)
	self.deps.count(kind, refusal.outcome);
	local attr = stanza.attr;
	if kind == "message" then return send_refusal(self, attr, refusal, "message"); end
	if attr.type == "get" or attr.type == "set" then send_refusal(self, attr, refusal); end
end

-- Whether a reply of the bridge to (to, id) may be sent; if so, nothing else answers that IQ any more.
function relay_methods:claim_reply(to, id)
	local key = key_of(to, id);
	if self.answered:get(key) then return false; end
	local open = self.open[key];
	if open then
		local item = open[1];
		close(self, item);
		self.deps.count(item.kind, "stored");
	end
	return true;
end

-- Stops; everything that a new instance needs, as plain values.
function relay_methods:save()
	self.stopped = true;
	local saved = { items = {}, answered = {}, refused = {} };
	local ages, flight = self.by_age, self.flight;
	if flight then
		saved.flight = { id = flight.id, body = flight.body, items = flight.items };
		if flight.cancel then flight.cancel(); end
	end
	local in_flight = {};
	for _, item in ipairs(flight and flight.items or {}) do in_flight[item] = true; end
	for i = ages.first, ages.last do
		local item = ages[i];
		if not item.is_finished and not in_flight[item] then saved.items[#saved.items + 1] = item; end
	end
	for key in self.answered:items() do table.insert(saved.answered, 1, key); end
	for domain, refused_until in self.refused:items() do saved.refused[domain] = refused_until; end
	return saved;
end

local function by_arrival(a, b)
	return a.number < b.number;
end

local function adopt(relay, items)
	for _, item in ipairs(items) do
		if not item.is_answered then
			local open = relay.open[item.key];
			if open then open[#open + 1] = item; else relay.open[item.key] = { item }; end
		end
	end
	table.sort(items, by_arrival);
	for _, item in ipairs(items) do
		remember_age(relay, item);
		relay.arrivals = math.max(relay.arrivals, item.number);
	end
end

-- Goes on where another instance stopped. What was under way is sent again under the same webhook-id, so that the
-- bridge answers it as it did or would have.
function relay_methods:restore(saved)
	for _, key in ipairs(saved.answered or {}) do self.answered:set(key, true); end
	for domain, refused_until in pairs(saved.refused or {}) do self.refused:set(domain, refused_until); end
	local items, flight = {}, saved.flight;
	for _, item in ipairs(flight and flight.items or {}) do items[#items + 1] = item; end
	for _, item in ipairs(saved.items or {}) do
		local ok = self.problem or self.queue:push(item);
		if ok then items[#items + 1] = item; else refuse(self, item, self.refusals.full); end
	end
	adopt(self, items);
	if self.problem then
		for _, item in ipairs(items) do refuse(self, item, self.refusals.unreachable); end
		self.by_age = { first = 1, last = 0 };
		return;
	end
	if flight then fly(self, { id = flight.id, body = flight.body, items = flight.items }); end
	self:pump();
	watch(self);
end

-- Answers everything that waits, because the module or the server goes away.
function relay_methods:stop()
	if self.stopped then return; end
	local ages, flight = self.by_age, self.flight;
	self.stopped = true;
	if flight and flight.cancel then flight.cancel(); end
	for i = ages.first, ages.last do
		if not ages[i].is_finished then refuse(self, ages[i], self.refusals.unreachable); end
	end
	self.flight = nil;
end

return { new = new, kind_types = kind_types };
