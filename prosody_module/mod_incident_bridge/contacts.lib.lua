-- Chat with people who look after servers that do not speak XEP-0268: what may go to them, for people and for programs
-- (reports, XEP-0377), and what of theirs comes back.

local cache = require "util.cache";
local jid = require "util.jid";
local st = require "util.stanza";
local is_utf8 = require "util.encodings".utf8.valid;

local reporting_xmlns = "urn:xmpp:reporting:1";
local jid_xmlns = "urn:xmpp:jid:0";
local reasons = { ["urn:xmpp:reporting:spam"] = true, ["urn:xmpp:reporting:abuse"] = true };
local own_id_prefix = "ib-";
local report_id_prefix = "ib-report-"; -- nothing that comes back for these says anything
local max_text_bytes = 16000;
local max_report_text_bytes = 2000;
local max_answer_bytes = 8000;
local max_remembered = 1000;

local contacts_methods = {};
local contacts_mt = { __index = contacts_methods };

-- memory: what another instance saved, or nil.
local function new(memory)
	-- bare JID -> id of the last message to it
	return setmetatable({ memory = memory or cache.new(max_remembered) }, contacts_mt);
end

local function is_own_id(id)
	return type(id) == "string" and id:sub(1, #own_id_prefix) == own_id_prefix and #id <= 256;
end

local function is_report_id(id)
	return is_own_id(id) and id:sub(1, #report_id_prefix) == report_id_prefix;
end

local function check_chat(stanza, host)
	local attr = stanza.attr;
	if attr.type ~= "chat" then return nil, "the type of a message must be chat"; end
	if not is_own_id(attr.id) then return nil, "the id must begin with " .. own_id_prefix; end
	local body = stanza:get_child_text("body");
	if not body or not body:find("%S") or #body > max_text_bytes then
		return nil, ("a body of at most %d bytes is needed"):format(max_text_bytes);
	end
	for _, child in ipairs(stanza.tags) do
		if child.name ~= "body" and child.name ~= "thread" or child.tags[1] then
			return nil, "only body and thread may be in a message";
		end
	end
	return st.message({ type = "chat", from = host, to = attr.to, id = attr.id }, body):text_tag("thread", attr.id);
end

-- The accused may be at another domain than the contact, which XEP-0157 allows, but not at one of this server.
local function check_report(stanza, host, is_local_domain)
	local attr, report = stanza.attr, stanza.tags[1];
	if attr.type then return nil, "a message with a report has no type"; end
	if not is_report_id(attr.id) then return nil, "the id must begin with " .. report_id_prefix; end
	local accused, text = report:get_child("jid", jid_xmlns), report:get_child("text", reporting_xmlns);
	if #stanza.tags ~= 1 or #report.tags ~= 2 or not accused or not text or accused.tags[1] or text.tags[1] then
		return nil, "exactly one report with one jid and one text is needed";
	end
	if not reasons[report.attr.reason] then return nil, "the reason of a report must be spam or abuse"; end
	accused, text = accused:get_text(), text:get_text();
	local node, domain, resource = jid.split(accused);
	if not node or resource or jid.prep(accused) ~= accused then return nil, "a report must be about a bare JID of a user"; end
	if is_local_domain(domain) then return nil, "the report is about a user of this server"; end
	if not text:find("%S") or #text > max_report_text_bytes then
		return nil, ("a text of at most %d bytes is needed"):format(max_report_text_bytes);
	end
	return st.message({ from = host, to = attr.to, id = attr.id })
		:tag("report", { xmlns = reporting_xmlns, reason = report.attr.reason })
			:text_tag("jid", accused, { xmlns = jid_xmlns })
			:text_tag("text", text, { xmlns = reporting_xmlns })
		:up();
end

-- The message as it may leave, or nil and what is wrong with it: text, or a report, for one user elsewhere, and nothing else.
local function check(stanza, host, is_local_domain)
	local node, domain, resource = jid.split(stanza.attr.to);
	if not node or resource then return nil, "to must be a bare JID of a user"; end
	if is_local_domain(domain) then return nil, "to is at a domain of this server"; end
	local first = stanza.tags[1];
	if first and first.name == "report" and first.attr.xmlns == reporting_xmlns then
		return check_report(stanza, host, is_local_domain);
	end
	return check_chat(stanza, host);
end

-- Remembers whom we wrote to, whose client may not name the thread.
function contacts_methods:remember(stanza)
	self.memory:set(jid.bare(stanza.attr.to), stanza.attr.id);
end

-- What of a message to the host the bridge should hear, as a stanza whose thread is the id of ours that it is about, and
-- its kind; nil if it is none of its business.
function contacts_methods:read(stanza)
	local attr = stanza.attr;
	if attr.type == "error" then
		if is_own_id(attr.id) and not is_report_id(attr.id) then return stanza, "error"; end
		return nil;
	end
	local thread = stanza:get_child_text("thread");
	local id = is_own_id(thread) and not is_report_id(thread) and thread or self.memory:get(jid.bare(attr.from));
	local body = stanza:get_child_text("body");
	if not id or not body or not body:find("%S") then return nil; end
	if #body > max_answer_bytes then
		body = body:sub(1, max_answer_bytes);
		while not is_utf8(body) do body = body:sub(1, -2); end
	end
	local said = st.message({ type = "chat", from = attr.from, to = attr.to, id = attr.id or "none" }, body);
	return said:text_tag("thread", id), "message";
end

return { new = new, check = check };
