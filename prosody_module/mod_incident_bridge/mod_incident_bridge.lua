-- mod_incident_bridge: relays XEP-0268 incident IQs to the incident bridge, sends what the bridge answers, and carries
-- out the mitigations that its operators decided on.
--
-- This file is MIT/X11 licensed.

if module.host == "*" then -- prosodyctl mod_incident_bridge …
	module.command = module:require "control".command(module);
	return;
end

local http = require "net.http";
local jid_host = require "util.jid".host;
local new_id = require "util.uuid".generate;
local st = require "util.stanza";
local time = require "util.time";
local usermanager = require "core.usermanager";
local load_roster = require "core.rostermanager".load_roster;
local xpcall = require "util.xpcall".xpcall;

local abuse = module:require "abuse";
local new_accounts = module:require "accounts".new;
local adhoc = module:require "adhoc_commands";
local chat = module:require "contacts";
local new_client = module:require "client".new;
local new_commands = module:require "commands".new;
local new_domains = module:require "domains".new;
local new_feeds = module:require "feeds".new;
local new_queue = module:require "fair_queue".new;
local own = module:require "host";
local new_lists = module:require "lists".new;
local mitigations = module:require "mitigations";
local new_mitigator = module:require "mitigator".new;
local notice = module:require "notice";
local new_preview = module:require "preview".new;
local refusals = module:require "refusals";
local relays = module:require "relay";
local new_rooms = module:require "rooms".new;
local settings = module:require "settings";
local describe_stream = module:require "stream".describe;
local webhook = module:require "webhook";

local host = module.host;
local xmlns = "urn:xmpp:incident:2";
local recorded_answers, recorded_seconds = 10000, 600;
local look_seconds = 2; -- how late expiry, and undo by prosodyctl, may be
local sweep_seconds = 3600;
local before_all = 10000; -- a priority

-- COMPAT: get_option_period and get_option_integer are in Prosody 13, not in 0.12
local get_period = module.get_option_period or module.get_option_number;
local get_integer = module.get_option_integer or module.get_option_number;

local url, url_problem = settings.read_url(module:get_option_string("incident_bridge_url", "http://127.0.0.1:8267"),
	host, module:get_option_boolean("incident_bridge_insecure", false));
local keys, secret_problem = webhook.read_secrets(module:get_option("incident_bridge_secret"));
local is_allowed, allow_problem = settings.read_allow(module:get_option_array("incident_bridge_allow", {}));
local publishes_lists = module:get_option_boolean("incident_bridge_lists", false);
local muc_domains = module:get_option_set("incident_bridge_muc", {});
local limits = {
	timeout = settings.within(get_period(module, "incident_bridge_timeout", 5), 0.1, 60);
	max_stanza_bytes = settings.within(get_integer(module, "incident_bridge_max_stanza_bytes", 131072), 1, 1048576);
};
local max_queued = settings.within(get_integer(module, "incident_bridge_max_queued", 1024), 1, 100000);
local problem = url_problem or allow_problem or secret_problem
	and ("incident_bridge_secret: %s; make one with: echo \"whsec_$(head -c 32 /dev/urandom | base64)\""
	.. " and give it to this host and to the bridge"):format(secret_problem);

local relayed = module:metric("counter", "relayed", "", "Incident IQs by kind and outcome", { "kind", "outcome" });
local requests = module:metric("counter", "requests", "", "Requests to the bridge by outcome", { "outcome" });
local heard = module:metric("counter", "reports_of_users", "", "Reports of users by outcome", { "outcome" });
local commanded = module:metric("counter", "commands", "", "Commands of the bridge by type and outcome", { "type", "outcome" });
local waiting = module:metric("gauge", "waiting", "", "Incident IQs waiting for the bridge", {}):with_labels();

local streams = setmetatable({}, { __mode = "k" }); -- what we know of each stream
local contacts = chat.new();
local recorded = webhook.new_recorded(recorded_answers, recorded_seconds);

local function memory_of(stream)
	local memory = streams[stream];
	if not memory then
		memory = { mechanisms = {} };
		streams[stream] = memory;
	end
	return memory;
end

local function log(level, ...)
	return module:log(level, ...);
end

local function timer(seconds, callback)
	return module:add_timer(seconds, callback);
end

-- Whether it went: module:send returns nothing, in 0.12 and 13, so only an error tells that it did not.
local function send(stanza)
	local ok, why = xpcall(module.send, debug.traceback, module, stanza);
	if not ok then log("error", "Could not send a stanza to %s: %s", stanza.attr.to, why); end
	return ok;
end

local function is_local_domain(domain)
	return prosody.hosts[domain] ~= nil;
end

local function list_admins()
	local admins = {};
	for admin in module:get_option_inherited_set("admins", {}) do admins[#admins + 1] = tostring(admin); end
	table.sort(admins);
	return admins;
end

local is_admin = own.new_is_admin(host, list_admins, usermanager);

local function is_own(domain)
	return own.is_own(domain, host, prosody.hosts, muc_domains);
end

local function list_own()
	return own.list_own(host, prosody.hosts, muc_domains);
end

local function user_exists(username)
	return usermanager.user_exists(username, host) and true or false;
end

local function find_admin(domain)
	return own.find_admin(domain, list_admins());
end

local mitigator;
local rooms = new_rooms { host = host, hosts = prosody.hosts, is_own = is_own, is_admin = is_admin, find_admin = find_admin };
local accounts = new_accounts {
	host = host, hosts = prosody.hosts, user_exists = user_exists, is_admin = is_admin, timer = timer;
	connections = function () return module:shared("/*/c2s/sessions"); end;
	is_suspended = function (account) return mitigator:has("account.suspend", account); end;
};
local domains = new_domains {
	host = host, hosts = prosody.hosts, list_own = list_own, is_own = is_own, find_admin = find_admin, rooms = rooms, timer = timer;
	incoming = function () return prosody.incoming_s2s; end;
	is_blocked = function (domain) return mitigator:has("domain.block", domain); end;
	send = function (stanza, from_host) prosody.core_post_stanza(prosody.hosts[from_host], stanza); end;
};
local effects = { ["account.suspend"] = accounts, ["domain.block"] = domains, ["room.ban"] = rooms };
mitigator = new_mitigator {
	mitigations = mitigations, effects = effects, clock = time.now, log = log;
	store = module:open_store(mitigations.store, "keyval");
	undo_store = module:open_store(mitigations.undo_store, "keyval");
};
local preview = new_preview {
	mitigations = mitigations, host = host, effects = effects, accounts = accounts, domains = domains, rooms = rooms;
	mitigator = mitigator, user_exists = user_exists, is_admin = is_admin, now = time.monotonic;
	users = function () return usermanager.users(host); end;
	load_roster = function (username) return (load_roster(username, host)); end;
};

local lists = new_lists {
	max_items = get_integer(module, "pubsub_max_items", 256), log = log; -- mod_pubsub's own default
	service = function ()
		local pubsub = publishes_lists and prosody.hosts[host].modules.pubsub;
		return pubsub and pubsub.service;
	end;
};

local function ask(stanza, seconds, callback)
	local function take(reply)
		local ok, why = xpcall(callback, debug.traceback, reply);
		if not ok then log("error", "Please report this error in mod_incident_bridge: %s", why); end
	end
	module:send_iq(stanza, nil, seconds):next(function (event) take(event.stanza); end, function (why)
		take(why.context and why.context.stanza); -- an error of theirs, or nothing in that time
	end);
end

local feeds = new_feeds {
	host = host, is_local_domain = is_local_domain, now = time.monotonic, new_id = new_id, ask = ask;
};

local function client_of_bridge()
	return not problem and new_client {
		url = url;
		new_http = function () return http.default.new { connection_pooling = true }; end; -- COMPAT: pooling begins with 13
		headers = function (id, body) return webhook.headers(keys[1], id, body, time.now()); end;
		timer = timer;
	};
end

local client, adhoc_client, abuse_client = client_of_bridge(), client_of_bridge(), client_of_bridge();

local relay = relays.new({
	queue = new_queue(max_queued), refusals = refusals, now = time.monotonic, clock = time.now, new_id = new_id;
	timer = timer, send = send, log = log;
	post = function (...) return client:post(...); end;
	status = function (level, text) module:set_status(level, text); end;
	count = function (kind, outcome) relayed:with_labels(kind, outcome):add(1); end;
	count_request = function (outcome) requests:with_labels(outcome):add(1); end;
	waiting = function (number) waiting:set(number); end;
}, limits, problem);

local commands = new_commands {
	host = host, keys = keys, webhook = webhook, notice = notice, contacts = contacts, check_chat = chat.check;
	recorded = recorded, problem = problem;
	kind_types = relays.kind_types, new_id = new_id;
	is_allowed = is_allowed, is_local_domain = is_local_domain, clock = time.now, send = send, log = log;
	claim_reply = function (to, id) return relay:claim_reply(to, id); end;
	admins = list_admins, user_exists = user_exists;
	count = function (type, outcome) commanded:with_labels(type, outcome):add(1); end;
	mitigator = mitigator;
	preview = function (data) return preview:preview(data); end;
	publish = function (data) return lists:publish(data); end;
	feeds = feeds;
	describe = function ()
		return own.describe {
			host = host, hosts = prosody.hosts, prosody_version = prosody.version, muc = muc_domains;
			admins = list_admins(), mitigations = mitigator:count(), publishes = publishes_lists;
		};
	end;
};

local adhoc_commands = adhoc.new({
	is_admin = is_admin, send = send, new_id = new_id, clock = time.now, log = log;
	post = function (...) return adhoc_client:post(...); end;
}, problem);

local user_reports = abuse.new({
	host = host, is_local_domain = is_local_domain, is_admin = is_admin, new_id = new_id, timer = timer, log = log;
	clock = time.now, now = time.monotonic;
	post = function (...) return abuse_client:post(...); end;
	count = function (outcome) heard:with_labels(outcome):add(1); end;
}, problem);

-- An uncaught error would leave the peer without any answer.
local function guard(handler)
	return function (event)
		local ok, result = xpcall(handler, debug.traceback, event);
		if ok then return result; end
		log("error", "Please report this error in mod_incident_bridge: %s", result);
		local type = event.stanza.attr.type;
		local refusal = refusals.our_fault;
		if type == "get" or type == "set" then
			send(st.error_reply(event.stanza, refusal.type, refusal.condition, refusal.text));
		end
		return true;
	end;
end

local function receive(event, kind)
	local origin, stanza = event.origin, event.stanza;
	local stream = describe_stream(origin, stanza, memory_of(origin), is_local_domain);
	relay:receive(stanza, kind, stream, jid_host(stanza.attr.from));
	return true;
end

for kind in pairs(relays.kind_types) do
	module:hook("iq/host/" .. xmlns .. ":" .. kind, guard(function (event) return receive(event, kind); end));
end

-- Before mod_iq, whose events for results and errors end in the id, and which fails where there is no payload.
module:hook("iq/host", guard(function (event)
	local stanza = event.stanza;
	local type, id = stanza.attr.type, stanza.attr.id;
	if type == "result" or type == "error" then
		if id and id:sub(1, 3) == "ib-" then return receive(event, type); end
	elseif not stanza.tags[1] then
		relay:refuse_stanza(stanza, "unknown", refusals.no_payload);
		return true;
	end
end), 10);

-- What people write back whom the bridge wrote to; everything else is left to others.
module:hook("message/host", guard(function (event)
	local said, kind = contacts:read(event.stanza);
	if not said then return; end
	local origin = event.origin;
	local stream = describe_stream(origin, event.stanza, memory_of(origin), is_local_domain);
	relay:receive(said, kind, stream, jid_host(said.attr.from));
	return true;
end), 10);

-- Shown by mod_adhoc to admins only, and answered here, before mod_adhoc, which knows no answer that comes later.
module:depends("adhoc");
local new_command = module:require("adhoc").new; -- mod_adhoc's own
for _, command in ipairs(adhoc.list) do
	module:provides("adhoc", new_command(command.name, command.node, function ()
		return { status = "error", error = { type = "wait", condition = "internal-server-error" } };
	end, "admin"));
end
module:hook("iq-set/host/" .. adhoc.xmlns .. ":command", guard(function (event)
	local origin = event.origin;
	return adhoc_commands:handle(event.stanza, origin.type == "c2s" and origin.ip or nil);
end), 510);

module:hook("s2s-authenticated", function (event)
	if event.session and event.host then memory_of(event.session).mechanisms[event.host] = event.mechanism; end
end, 10);

-- What a mitigation forbids goes on where this module fails: it stands in the way of every stanza.
local function in_the_way(object, method)
	return function (...)
		local ok, result = xpcall(object[method], debug.traceback, object, ...);
		if ok then return result; end
		log("error", "Please report this error in mod_incident_bridge: %s", result);
	end;
end

module:hook("pre-resource-bind", in_the_way(accounts, "refuse_bind"), before_all);
for _, version in ipairs { "2", "3" } do
	module:hook_tag("urn:xmpp:sm:" .. version, "resume", in_the_way(accounts, "refuse_resumption"), before_all);
end

-- After mod_spam_reporting, if there is one, and before mod_blocklist, which answers.
module:depends("blocklist");
module:add_feature(abuse.xmlns);
module:hook("iq-set/self/urn:xmpp:blocking:block", in_the_way({
	hear = function (_, event)
		if event.origin.type == "c2s" then user_reports:hear_block(event.stanza, event.origin.username); end
	end;
}, "hear"));
for _, kind in ipairs { "spam", "abuse", "unknown" } do
	module:hook("spam_reporting/" .. kind .. "-report", in_the_way(user_reports, "hear_event"));
end

module:hook("message/host", in_the_way(feeds, "hear"), 10);

local refuse_incoming, refuse_outgoing = in_the_way(domains, "refuse_incoming"), in_the_way(domains, "refuse_outgoing");
local close_doomed = in_the_way(domains, "close_doomed");
local renew_room = in_the_way({ renew = function (_, event) mitigator:renew_room(event.room.jid); end }, "renew");

-- The host's components come and go by themselves.
local function stand_in_the_way(name)
	local session = prosody.hosts[name];
	if name ~= host and not is_own(name) then return; end
	for _, stanza_name in ipairs { "message", "presence", "iq" } do
		for _, kind in ipairs { "/host", "/bare", "/full" } do
			module:hook_object_event(session.events, stanza_name .. kind, refuse_incoming, before_all);
		end
	end
	module:hook_object_event(session.events, "route/remote", refuse_outgoing, before_all);
	module:hook_object_event(session.events, "s2sout-established", close_doomed, before_all);
	module:hook_object_event(session.events, "muc-room-created", renew_room);
end

for _, name in ipairs(list_own()) do stand_in_the_way(name); end
module:hook_global("host-activated", function (name)
	if name ~= host then stand_in_the_way(name); end
end);

module:add_feature(xmlns);

module:depends("http");
module:provides("http", {
	name = "incident_bridge";
	default_path = "/incident_bridge";
	cors = { enabled = false };
	route = {
		["POST"] = function (event)
			local ok, answer = xpcall(commands.handle, debug.traceback, commands, event.request);
			if ok then return answer; end
			log("error", "Please report this error in mod_incident_bridge: %s", answer);
			return 500;
		end;
	};
});

function module.save()
	return {
		relay = relay:save(), abuse = user_reports:save(), recorded = recorded.answers, streams = streams;
		contacts = contacts.memory;
	};
end

function module.restore(saved)
	contacts.memory = saved.contacts or contacts.memory;
	recorded.answers = saved.recorded or recorded.answers;
	for stream, memory in pairs(saved.streams or {}) do streams[stream] = memory; end
	relay:restore(saved.relay or {});
	user_reports:restore(saved.abuse or {});
end

function module.unload()
	adhoc_commands:stop();
	user_reports:stop();
	relay:stop();
end

-- Before mod_s2s closes the streams.
module:hook_global("server-stopping", function ()
	adhoc_commands:stop();
	user_reports:stop();
	relay:stop();
end);

if publishes_lists then
	module:depends("pubsub");
	lists:open();
end

mitigator:open();
local look = in_the_way(mitigator, "look");
look();
module:add_timer(look_seconds, function ()
	look();
	return look_seconds;
end);

local sweep = in_the_way(feeds, "sweep");
module:add_timer(sweep_seconds, function ()
	sweep();
	return sweep_seconds;
end);

if problem then
	module:log_status("error", "%s", problem);
else
	module:log_status("info", "Relaying incidents to %s", url);
end
