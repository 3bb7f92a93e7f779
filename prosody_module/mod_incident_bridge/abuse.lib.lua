-- What users of this host report about others (XEP-0377, in the command with which they block them), on its way to the
-- bridge: read, wait in turn, travel in a batch. Nobody waits for an answer: the user got that of the block.

local array = require "util.array";
local jid = require "util.jid";
local json = require "util.json";
local is_utf8 = require "util.encodings".utf8.valid;

local xmlns, xmlns_before = "urn:xmpp:reporting:1", "urn:xmpp:reporting:0";
local xmlns_stanza_id = "urn:xmpp:sid:0";
local max_batch_items = 48; -- fit into a body of 1 MiB, however long each is and however much JSON must escape
local max_waiting, max_waiting_of_user = 1024, 32;
local max_items_of_stanza = 16;
local max_text_bytes, max_ids, max_id_bytes = 2000, 10, 512;
local answer_seconds = 15;
local first_pause_seconds, last_pause_seconds = 2, 60;
local log_again_seconds = 60;

local kinds = {
	["urn:xmpp:reporting:spam"] = "spam";
	["urn:xmpp:reporting:abuse"] = "abuse";
};

local methods = {};
local mt = { __index = methods };

-- deps: host; is_local_domain(domain); is_admin(bare JID); clock() -> Unix seconds; now() -> seconds that only grow;
-- new_id(); timer(seconds, callback); post(id, body, seconds, callback(code, answer)) -> cancel();
-- log(level, text, ...); count(outcome). problem: why nothing can be relayed, or nil.
local function new(deps, problem)
	return setmetatable({
		deps = deps, problem = problem;
		waiting = {}; -- reports, oldest first
		of_user = {}; -- how many of them are whose
		heard = setmetatable({}, { __mode = "k" }); -- the elements that were counted, so that none is counted twice
		flight = nil; -- the request under way or to be repeated: id, body, items, cancel
		pause_seconds = first_pause_seconds;
	}, mt);
end

-- At most so many bytes of a text, and whole characters.
local function cut(text, most)
	if #text <= most then return text; end
	text = text:sub(1, most);
	while #text > 0 and not is_utf8(text) do text = text:sub(1, -2); end
	return text;
end

local function ids_of(report)
	local found = array();
	for tag in report:childtags("stanza-id", xmlns_stanza_id) do
		local id = tag.attr.id;
		if id and #id <= max_id_bytes and #found < max_ids then found:push(id); end
	end
	return found;
end

-- Which kind of abuse it is; before version 1 of the namespace, elements said so.
local function kind_of(report)
	if report.attr.xmlns == xmlns then return kinds[report.attr.reason] or "other"; end
	return report:get_child("spam") and "spam" or report:get_child("abuse") and "abuse" or "other";
end

-- What the bridge is told of one report; `accused` is a prepared JID.
local function describe(self, reporter, accused, report)
	local deps, bare = self.deps, jid.bare(accused);
	return {
		reporter = reporter, jid = accused, kind = kind_of(report);
		text = cut(report:get_child_text("text") or "", max_text_bytes), stanza_ids = ids_of(report);
		report_origin = report:get_child("report-origin") ~= nil, third_party = report:get_child("third-party") ~= nil;
		is_own = deps.is_local_domain(jid.host(accused)) and true or false;
		is_admin = deps.is_admin(bare) and true or false;
		at = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(deps.clock()));
	};
end

local function complain(self, text, ...)
	local now = self.deps.now();
	if self.complained_at and now - self.complained_at < log_again_seconds then return; end
	self.complained_at = now;
	self.deps.log("warn", text, ...);
end

-- Takes in one report of `username`; `item` is the element it stands in, `report` the report itself.
local function hear(self, username, item, report)
	local accused = jid.prep(item.attr.jid);
	if self.heard[report] or not accused then return; end
	self.heard[report] = true;
	local reporter = username .. "@" .. self.deps.host;
	if #self.waiting >= max_waiting or (self.of_user[reporter] or 0) >= max_waiting_of_user then
		self.deps.count("dropped");
		return complain(self, "A report by %s is dropped: too many wait for the incident bridge", reporter);
	end
	self.of_user[reporter] = (self.of_user[reporter] or 0) + 1;
	table.insert(self.waiting, describe(self, reporter, accused, report));
	self:pump();
end

local function report_in(item)
	return item:get_child("report", xmlns) or item:get_child("report", xmlns_before);
end

-- A command to block somebody, of a user of ours, before mod_blocklist carries it out; it refuses one that names a JID
-- which is none as a whole, and then nothing was reported.
function methods:hear_block(stanza, username)
	local reported = {};
	for item in stanza.tags[1]:childtags("item") do
		if not jid.prep(item.attr.jid) then return; end
		local report = report_in(item);
		if report then reported[#reported + 1] = { item, report }; end
	end
	for i = 1, math.min(#reported, max_items_of_stanza) do hear(self, username, reported[i][1], reported[i][2]); end
	if #reported > max_items_of_stanza then
		complain(self, "%s reported %d JIDs at once: only the first %d count", username, #reported, max_items_of_stanza);
	end
end

-- An event of mod_spam_reporting's, which reads the same command before we do.
function methods:hear_event(event)
	local origin, item, report = event.origin, event.item, event.report;
	if not origin or origin.type ~= "c2s" or not item or not report then return; end
	hear(self, origin.username, item, report);
end

local function take(self)
	local items = array();
	while #items < max_batch_items and self.waiting[1] do
		local one = table.remove(self.waiting, 1);
		local left = self.of_user[one.reporter] - 1;
		self.of_user[one.reporter] = left > 0 and left or nil;
		items:push(one);
	end
	return items;
end

local function repeat_later(self)
	local seconds = self.pause_seconds;
	self.pause_seconds = math.min(seconds * 2, last_pause_seconds);
	self.is_pausing = true;
	self.deps.timer(seconds, function ()
		self.is_pausing = false;
		if not self.stopped then self:pump(); end
	end);
end

local function land(self, flight, code, answer)
	if self.flight ~= flight or self.stopped then return; end
	if code == 200 or code == 400 or code == 413 then
		self.flight, self.pause_seconds = nil, first_pause_seconds;
		for _ = 1, #flight.items do self.deps.count(code == 200 and "stored" or "refused"); end
		if code ~= 200 then
			self.deps.log("error", "The incident bridge refuses what users report (%d: %s): compare the versions of bridge and module",
				code, tostring(answer):sub(1, 200));
		end
		return self:pump();
	end
	flight.cancel = nil;
	complain(self, "What users report waits: the incident bridge does not take it (%s)", tostring(code == 0 and answer or code));
	repeat_later(self);
end

-- Sends the next batch, or the same again under the same webhook-id, unless one is under way.
function methods:pump()
	if self.stopped or self.problem or self.is_pausing or self.flight and self.flight.cancel then return; end
	local flight = self.flight;
	if not flight then
		local items = take(self);
		if not items[1] then return; end
		flight = { id = self.deps.new_id(), items = items };
		flight.body = json.encode {
			type = "abuse.reported", timestamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(self.deps.clock()));
			data = { items = items };
		};
		self.flight = flight;
	end
	flight.cancel = function () end;
	local ok, cancel = pcall(self.deps.post, flight.id, flight.body, answer_seconds, function (code, answer)
		land(self, flight, code, answer);
	end);
	if not ok then return land(self, flight, 0, cancel); end
	if self.flight == flight and flight.cancel then flight.cancel = cancel; end
end

-- Stops; what a new instance needs, as plain values.
function methods:save()
	self:stop();
	local flight = self.flight;
	return { waiting = self.waiting, of_user = self.of_user;
		flight = flight and { id = flight.id, body = flight.body, items = flight.items } };
end

function methods:restore(saved)
	self.waiting, self.of_user, self.flight = saved.waiting or {}, saved.of_user or {}, saved.flight;
	self:pump();
end

function methods:stop()
	self.stopped = true;
	if self.flight and self.flight.cancel then self.flight.cancel(); end
end

return { new = new, xmlns = xmlns };
