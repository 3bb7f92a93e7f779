-- A notice to the host's admins: what it may say, and to whom it may go.

local jid = require "util.jid";
local json_null = require "util.json".null;
local is_utf8 = require "util.encodings".utf8.valid;

local max_text_bytes = 2000;
local max_recipients = 64;

-- What no XML stream carries, or what no notice needs; a peer would close the stream for some of them.
local refused_characters = { "[\0-\9\11-\31\127]", "\194[\128-\159]", "\239\191[\190\191]" };

-- true, or nil and what is wrong with the text.
local function check_text(text)
	if type(text) ~= "string" or not text:find("%S") then return nil, "text is missing"; end
	if #text > max_text_bytes then return nil, ("text is over %d bytes"):format(max_text_bytes); end
	if not is_utf8(text) then return nil, "text is not UTF-8"; end
	for _, pattern in ipairs(refused_characters) do
		if text:find(pattern) then return nil, "text has control characters other than newline"; end
	end
	return true;
end

-- The JID in its normal form if it is a user's bare JID, or nil.
local function read_bare_jid(text)
	local prepared = type(text) == "string" and jid.prep(text);
	local node, _, resource = jid.split(prepared or nil);
	if node and not resource then return prepared; end
end

-- The bare JIDs among the admins, as a table of true.
local function read_admins(admins)
	local known = {};
	for _, admin in ipairs(admins) do
		local bare = read_bare_jid(admin);
		if bare then known[bare] = true; end
	end
	return known;
end

-- Whether `to` names nobody, so that all admins are meant; nil and why if it is not a list of JIDs.
local function means_everybody(to)
	if to == nil or to == json_null then return true; end
	if type(to) ~= "table" or #to == 0 and next(to) ~= nil then return nil, "to is not a list of JIDs"; end
	if #to > max_recipients then return nil, ("to has more than %d JIDs"):format(max_recipients); end
	for _, recipient in ipairs(to) do
		if type(recipient) ~= "string" then return nil, "to is not a list of JIDs"; end
	end
	return #to == 0;
end

-- Who gets the notice, each once, and whom of `to` it may not go to; nil and what is wrong with `to`.
-- admins: the host's admins as the operator wrote them.
local function find_recipients(to, admins)
	local is_everybody, why = means_everybody(to);
	if is_everybody == nil then return nil, why; end
	local known, seen, recipients, others = read_admins(admins), {}, {}, {};
	for _, recipient in ipairs(is_everybody and admins or to) do
		local bare = read_bare_jid(recipient);
		if not bare or not known[bare] then
			others[#others + 1] = recipient;
		elseif not seen[bare] then
			seen[bare] = true;
			recipients[#recipients + 1] = bare;
		end
	end
	return recipients, others;
end

return { check_text = check_text, find_recipients = find_recipients };
