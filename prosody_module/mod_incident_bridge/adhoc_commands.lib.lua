-- Ad-hoc commands (XEP-0050) for the host's admins. What they show, ask and do is the bridge's: here forms (XEP-0004)
-- only travel, each in a request of its own beside the queue of incident IQs.

local array = require "util.array";
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local is_utf8 = require "util.encodings".utf8.valid;

local xmlns = "http://jabber.org/protocol/commands";
local xmlns_form = "jabber:x:data";
local answer_seconds = 15; -- the bridge looks for a moment what comes of a yes
local max_waiting = 16;
local max_form_bytes = 131072;
local actions = { execute = true, next = true, prev = true, complete = true };

local list = {
	{ node = "incident-bridge#incidents", name = "Incidents: list and read" };
	{ node = "incident-bridge#approvals", name = "Incidents: say yes or no to what is asked for" };
	{ node = "incident-bridge#mitigations", name = "Incidents: see what is in force, and take it back" };
	{ node = "incident-bridge#report", name = "Incidents: report one to other servers" };
	{ node = "incident-bridge#inquiry", name = "Incidents: ask other servers what they know" };
	{ node = "incident-bridge#request", name = "Incidents: ask other servers to do something" };
	{ node = "incident-bridge#response", name = "Incidents: answer a request by hand" };
};
local statuses = { executing = true, completed = true };
local known = {};
for _, command in ipairs(list) do known[command.node] = true; end

local methods = {};
local mt = { __index = methods };

-- deps: is_admin(bare JID); post(id, body, seconds, callback(code, answer)) -> cancel(); send(stanza); new_id();
-- clock() -> Unix seconds; log(level, text, ...). problem: why the bridge cannot be asked, or nil.
local function new(deps, problem)
	return setmetatable({ deps = deps, problem = problem, waiting = {}, count = 0 }, mt);
end

-- No XML stream carries some of these, and none of them belongs into what a person reads.
local function clean(text)
	if type(text) ~= "string" or not is_utf8(text) then return ""; end
	return (text:gsub("[\0-\8\11-\31\127]", "?"):gsub("\194[\128-\159]", "?"):gsub("\239\191[\190\191]", "?"));
end

local function strings(value)
	local found = {};
	for _, text in ipairs(type(value) == "table" and value or {}) do found[#found + 1] = clean(text); end
	return found;
end

local function objects(value)
	local found = {};
	for _, one in ipairs(type(value) == "table" and value or {}) do
		if type(one) == "table" then found[#found + 1] = one; end
	end
	return found;
end

local function read_fields(command)
	local fields = array();
	local form = command:get_child("x", xmlns_form);
	if not form then return fields; end
	for field in form:childtags("field") do
		local values = array();
		for value in field:childtags("value") do values:push(value:get_text() or ""); end
		if field.attr.var then fields:push({ var = field.attr.var, values = values }); end
	end
	return fields;
end

local function add_field(reply, field)
	local var, label = field.var and clean(field.var) or nil, field.label and clean(field.label) or nil;
	reply:tag("field", { var = var, type = clean(field.type), label = label });
	for _, value in ipairs(strings(field.values)) do reply:text_tag("value", value); end
	if field.required == true then reply:tag("required"):up(); end
	for _, option in ipairs(objects(field.options)) do
		reply:tag("option", { label = clean(option.label) }):text_tag("value", clean(option.value)):up();
	end
	reply:up();
end

local function add_form(reply, form)
	reply:tag("x", { xmlns = xmlns_form, type = form.type == "result" and "result" or "form" });
	reply:text_tag("title", clean(form.title));
	for _, text in ipairs(strings(form.instructions)) do reply:text_tag("instructions", text); end
	for _, field in ipairs(objects(form.fields)) do add_field(reply, field); end
	reply:up();
end

local function add_actions(reply, allowed)
	reply:tag("actions", { execute = allowed[#allowed] });
	for _, action in ipairs(allowed) do
		if actions[action] and action ~= "execute" then reply:tag(action):up(); end
	end
	reply:up();
end

-- An error for the person's client; `detail` is the word that XEP-0050 has for it.
local function error_reply(stanza, type, condition, text, detail)
	local reply = st.error_reply(stanza, type, condition, text);
	if detail then reply:get_child("error"):tag(detail, { xmlns = xmlns }):up(); end
	return reply;
end

local function write_reply(stanza, answer)
	local refusal = answer.error;
	if type(refusal) == "table" then
		local detail = type(refusal.detail) == "string" and refusal.detail or nil;
		return error_reply(stanza, refusal.type, refusal.condition, clean(refusal.text), detail);
	end
	assert(statuses[answer.status], "the bridge's answer has no status");
	local attr = { xmlns = xmlns, node = stanza.tags[1].attr.node, sessionid = clean(answer.session), status = answer.status };
	local reply = st.reply(stanza):tag("command", attr);
	if answer.status == "executing" then add_actions(reply, strings(answer.actions)); end
	if type(answer.form) == "table" then add_form(reply, answer.form); end
	if type(answer.note) == "table" then
		reply:tag("note", { type = clean(answer.note.type) }):text(clean(answer.note.text)):up();
	end
	return reply;
end

local function refuse(self, stanza, ...)
	self.deps.send(error_reply(stanza, ...));
end

-- What is wrong where the bridge gave no answer, for the admin who waits for one.
local function describe_failure(code)
	if code == 0 then return "The incident bridge does not answer; once it runs, try again"; end
	if code == 401 then return "The incident bridge refuses our signature: its secret or clock is not this server's"; end
	if code == 404 then return "The incident bridge does not know this host: add it to the bridge's configuration"; end
	if code == 400 then return "The incident bridge does not understand this: its release is not that of mod_incident_bridge"; end
	return ("The incident bridge answers %d: see its log"):format(code);
end

local function land(self, stanza, code, answer)
	local decoded = code == 200 and json.decode(answer or "");
	if type(decoded) == "table" then
		local ok, reply = pcall(write_reply, stanza, decoded);
		if ok then return self.deps.send(reply); end
		self.deps.log("error", "Please report this error in mod_incident_bridge: %s", reply);
		code = 200;
	end
	local text = describe_failure(code);
	self.deps.log("warn", "An admin's command failed: %s", text);
	refuse(self, stanza, "wait", "resource-constraint", text);
end

local function body_of(self, stanza, ip)
	local command = stanza.tags[1];
	return json.encode {
		type = "adhoc.command", timestamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(self.deps.clock()));
		data = {
			node = command.attr.node, session = command.attr.sessionid or "", action = command.attr.action or "execute";
			from = stanza.attr.from, ip = ip or "", fields = read_fields(command);
		};
	};
end

local function ask(self, stanza, body)
	local token = {};
	self.waiting[token], self.count = stanza, self.count + 1;
	local function once(code, answer)
		if not self.waiting[token] then return; end
		self.waiting[token], self.count = nil, self.count - 1;
		land(self, stanza, code, answer);
	end
	local ok, why = pcall(self.deps.post, self.deps.new_id(), body, answer_seconds, once);
	if not ok then
		self.deps.log("error", "Could not ask the incident bridge: %s", why);
		once(0);
	end
end

-- Takes a command in and answers it, now or later; returns whether it is one of ours. `ip`: of the admin, if it is known.
function methods:handle(stanza, ip)
	local command = stanza.tags[1];
	if not known[command.attr.node] then return nil; end
	local action = command.attr.action or "execute";
	if not self.deps.is_admin(jid.bare(stanza.attr.from)) then
		refuse(self, stanza, "auth", "forbidden", "Only admins of this server may do this");
	elseif action == "cancel" then
		local attr = { xmlns = xmlns, node = command.attr.node, sessionid = command.attr.sessionid, status = "canceled" };
		self.deps.send(st.reply(stanza):tag("command", attr));
	elseif not actions[action] then
		refuse(self, stanza, "modify", "bad-request", nil, "malformed-action");
	elseif self.problem then
		refuse(self, stanza, "wait", "resource-constraint", "mod_incident_bridge is not configured: see Prosody's log");
	elseif self.count >= max_waiting then
		refuse(self, stanza, "wait", "resource-constraint", "Too many commands wait for the incident bridge");
	else
		local body = body_of(self, stanza, ip);
		if #body > max_form_bytes then
			refuse(self, stanza, "modify", "policy-violation", "The form is too big", "bad-payload");
		else
			ask(self, stanza, body);
		end
	end
	return true;
end

-- Answers everybody who waits, because the module or the server goes away.
function methods:stop()
	local waiting = self.waiting;
	self.waiting, self.count = {}, 0;
	for _, stanza in pairs(waiting) do
		refuse(self, stanza, "wait", "resource-constraint", "mod_incident_bridge is being stopped");
	end
end

return { new = new, list = list, xmlns = xmlns };
