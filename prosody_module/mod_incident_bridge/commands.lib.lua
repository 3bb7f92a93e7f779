-- What the bridge asks of this server: POST /incident_bridge, signed.

local array = require "util.array";
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local xml = require "util.xml";

local incident_xmlns = "urn:xmpp:incident:2";
local disco_info = "http://jabber.org/protocol/disco#info";
local own_id_prefix = "ib-";
local max_stanzas = 64;
local max_recorded_bytes = 16384; -- a longer answer lists what this server has, and asking again does no harm

local commands_methods = {};
local commands_mt = { __index = commands_methods };

-- deps: host, keys, webhook, notice, contacts, check_chat, recorded, kind_types; is_allowed(ip); clock();
-- is_local_domain(domain); claim_reply(to, id); send(stanza) -> whether it went; new_id(); admins() -> a list of JIDs;
-- user_exists(username); describe() -> table; count(type, outcome); log(level, text, ...);
-- mitigator: apply(type, data), lift(data), list(data); feeds: read(data), forget(data); preview(data), publish(data): each
-- a table, or nil, why not, and the status;
-- problem: why nothing can be done, or nil.
local function new(deps)
	return setmetatable({ deps = deps }, commands_mt);
end

-- In our streams the stanza's namespace is the stream's own.
local function remove_client_xmlns(stanza)
	if stanza.attr.xmlns == "jabber:client" then stanza.attr.xmlns = nil; end
	for _, child in ipairs(stanza.tags) do remove_client_xmlns(child); end
end

local function parse_stanza(text)
	if type(text) ~= "string" then return nil, "not a string"; end
	local ok, stanza, why = pcall(xml.parse, text);
	if not ok or not stanza then return nil, "not XML: " .. tostring(why or "a DOCTYPE, comment or instruction"); end
	remove_client_xmlns(stanza);
	if stanza.name ~= "iq" and stanza.name ~= "message" or stanza.attr.xmlns then return nil, "not an iq or a message"; end
	return stanza;
end

local function is_disco_info(payload)
	return payload.name == "query" and payload.attr.xmlns == disco_info;
end

local function check_reply(stanza, payload)
	if #stanza.tags > 1 then return nil, "more than one child"; end
	if stanza.attr.type == "result" then
		if payload and not is_disco_info(payload) then return nil, "a result must be empty or answer disco#info"; end
		return true;
	end
	if not payload or payload.name ~= "error" or payload.attr.xmlns then
		return nil, "an error must have one <error/> and nothing else";
	end
	return true;
end

local function check_question(self, stanza, payload)
	local node, domain, resource = jid.split(stanza.attr.to);
	if node or resource then return nil, "to must be a bare domain"; end
	if self.deps.is_local_domain(domain) then return nil, "to is a domain of this server"; end
	if stanza.attr.id:sub(1, #own_id_prefix) ~= own_id_prefix then return nil, "the id must begin with " .. own_id_prefix; end
	if #stanza.tags ~= 1 then return nil, "exactly one payload is needed"; end
	if is_disco_info(payload) and stanza.attr.type == "get" then return true; end
	if payload.attr.xmlns ~= incident_xmlns or self.deps.kind_types[payload.name] ~= stanza.attr.type then
		return nil, "the payload must be an incident interaction of this type, or a disco#info get";
	end
	return true;
end

local function is_reply(stanza)
	return stanza.attr.type == "result" or stanza.attr.type == "error";
end

-- The stanza as it may leave, or nil and what is wrong with it.
local function read_stanza(self, text)
	local stanza, why = parse_stanza(text);
	if not stanza then return nil, why; end
	local attr = stanza.attr;
	local to = jid.prep(attr.to);
	if not to then return nil, "to is not a JID"; end
	if not attr.id or attr.id == "" or #attr.id > 256 then return nil, "the id is missing or over 256 bytes"; end
	if stanza.name == "message" then
		stanza.attr.to = to;
		return self.deps.check_chat(stanza, self.deps.host, self.deps.is_local_domain);
	end
	stanza.attr = { from = self.deps.host, to = to, id = attr.id, type = attr.type, ["xml:lang"] = attr["xml:lang"] };
	local ok;
	if is_reply(stanza) then
		ok, why = check_reply(stanza, stanza.tags[1]);
	elseif attr.type == "get" or attr.type == "set" then
		ok, why = check_question(self, stanza, stanza.tags[1]);
	else
		why = "the type must be get, set, result or error";
	end
	if not ok then return nil, why; end
	return stanza;
end

local function send_one(self, text)
	local stanza, why = read_stanza(self, text);
	if not stanza then return { error = why }; end
	if stanza.attr.type == "chat" then
		self.deps.contacts:remember(stanza);
	elseif is_reply(stanza) and not self.deps.claim_reply(stanza.attr.to, stanza.attr.id) then
		return { dropped = "already-answered" };
	end
	if not self.deps.send(stanza) then return { error = "not sent" }; end
	return {};
end

local handlers = {};

handlers["stanza.send"] = function (self, data)
	local stanzas = data.stanzas;
	if type(stanzas) ~= "table" or #stanzas < 1 or #stanzas > max_stanzas then
		return nil, "stanzas must be a list of 1 to 64";
	end
	local results = array();
	for i, text in ipairs(stanzas) do
		results[i] = send_one(self, text);
	end
	return { results = results };
end

handlers["operator.notify"] = function (self, data)
	local deps = self.deps;
	local ok, why = deps.notice.check_text(data.text);
	if not ok then return nil, why; end
	local recipients, others = deps.notice.find_recipients(data.to, deps.admins());
	if not recipients then return nil, others; end
	local sent, not_sent = array(), array(others);
	for _, to in ipairs(recipients) do
		local attr = { type = "chat", from = deps.host, to = to, id = deps.new_id() };
		local list = deps.send(st.message(attr, data.text)) and sent or not_sent;
		list:push(to);
	end
	return { sent = sent, not_sent = not_sent };
end

-- To users who reported somebody, and only to users of this host.
handlers["reporters.notify"] = function (self, data)
	local deps = self.deps;
	local ok, why = deps.notice.check_text(data.text);
	if not ok then return nil, why; end
	if type(data.to) ~= "table" or #data.to < 1 or #data.to > max_stanzas then return nil, "to must be a list of 1 to 64"; end
	local sent, not_sent = array(), array();
	for _, to in ipairs(data.to) do
		local prepared = type(to) == "string" and jid.prep(to) or nil;
		local node, domain, resource = jid.split(prepared);
		if node and domain == deps.host and not resource and deps.user_exists(node) then
			local attr = { type = "chat", from = deps.host, to = prepared, id = deps.new_id() };
			local list = deps.send(st.message(attr, data.text)) and sent or not_sent;
			list:push(prepared);
		else
			not_sent:push(to);
		end
	end
	return { sent = sent, not_sent = not_sent };
end

handlers["host.describe"] = function (self)
	return self.deps.describe();
end

for _, type in ipairs { "account.suspend", "domain.block", "room.ban" } do
	handlers[type] = function (self, data) return self.deps.mitigator:apply(type, data); end;
end

handlers["mitigation.lift"] = function (self, data)
	return self.deps.mitigator:lift(data);
end

handlers["mitigations.list"] = function (self, data)
	return self.deps.mitigator:list(data);
end

handlers["list.publish"] = function (self, data)
	return self.deps.publish(data);
end

handlers["list.read"] = function (self, data)
	return self.deps.feeds:read(data);
end

handlers["list.forget"] = function (self, data)
	return self.deps.feeds:forget(data);
end

handlers["impact.preview"] = function (self, data)
	return self.deps.preview(data);
end

local function answer(status, content)
	return {
		status_code = status;
		headers = { content_type = "application/json" };
		body = type(content) == "table" and json.encode(content) or content;
	};
end

-- The type's handler and the data, or nil and what is wrong with the body.
local function read_command(self, body)
	local command = json.decode(body);
	if type(command) ~= "table" then return nil, "the body is not a JSON object"; end
	if type(command.data) ~= "table" then return nil, "data is missing"; end
	if command.data.host ~= self.deps.host then return nil, "data.host is not " .. self.deps.host; end
	local handler = type(command.type) == "string" and handlers[command.type];
	if not handler then return nil, "unknown type"; end
	return command, handler;
end

local outcomes = { [200] = "ok", [400] = "bad_request", [404] = "not_found", [409] = "refused" };

local function execute(self, body)
	local command, handler = read_command(self, body);
	if not command then
		self.deps.count("unknown", "bad_request");
		return answer(400, { error = handler });
	end
	local content, why, status = handler(self, command.data);
	status = content and 200 or status or 400;
	self.deps.count(command.type, outcomes[status] or "failed");
	return answer(status, content or { error = why });
end

local advice = {
	[400] = "compare the versions of bridge and module";
	[401] = "give the bridge and incident_bridge_secret the same value, and set the clocks of both machines";
	[413] = "compare the versions of bridge and module";
};

-- Answers a request of Prosody's HTTP server: its ip, headers and body.
function commands_methods:handle(request)
	local deps = self.deps;
	if not deps.is_allowed(request.ip) then
		deps.count("unknown", "forbidden");
		deps.log("warn", "Refused a command from %s: list it in incident_bridge_allow if the bridge runs there", request.ip);
		return answer(403, { error = "this address may not command this server" });
	end
	if deps.problem then return answer(503, { error = "mod_incident_bridge is not configured: see Prosody's log" }); end
	local body, now = request.body or "", deps.clock();
	local ok, status, content = deps.webhook.verify(deps.keys, request.headers, body, now);
	if not ok then
		deps.count("unknown", "unverified");
		deps.log("warn", "Refused a command from %s (%s): %s", request.ip, content.error, advice[status]);
		return answer(status, content);
	end
	local id = request.headers.webhook_id;
	local recorded = deps.recorded:get(id, now);
	if recorded then return answer(200, recorded); end
	local result = execute(self, body);
	if result.status_code == 200 and #result.body <= max_recorded_bytes then deps.recorded:put(id, result.body, now); end
	return result;
end

return { new = new };
