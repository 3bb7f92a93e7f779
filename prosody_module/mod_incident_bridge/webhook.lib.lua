-- Standard Webhooks signatures, and the answers already given to a webhook-id.

local base64 = require "util.encodings".base64;
local cache = require "util.cache";
local hashes = require "util.hashes";

local tolerance_seconds = 300;
local max_body_bytes = 1024 * 1024;
local max_id_bytes = 256;

-- The HMAC key in a secret: whsec_ and the base64 of 24 to 64 bytes.
local function read_secret(secret)
	if type(secret) ~= "string" then return nil, "it is not a string"; end
	local encoded = secret:match("^%s*whsec_(%S+)%s*$");
	if not encoded then return nil, "it does not begin with whsec_"; end
	local key = #encoded % 4 == 0 and encoded:match("^[%w+/]+=?=?$") and base64.decode(encoded);
	if not key then return nil, "what follows whsec_ is not base64"; end
	if #key < 24 or #key > 64 then return nil, ("it has %d bytes, and 24 to 64 are needed"):format(#key); end
	return key;
end

-- The keys of the option incident_bridge_secret: one string, or two while rotating, of which the first signs.
local function read_secrets(option)
	local secrets = type(option) == "table" and option or { option };
	if #secrets == 0 then return nil, "it is missing"; end
	if #secrets > 2 then return nil, "it lists more than two"; end
	local keys = {};
	for i, secret in ipairs(secrets) do
		local key, why = read_secret(secret);
		if not key then return nil, why; end
		keys[i] = key;
	end
	return keys;
end

local function sign(key, id, timestamp, body)
	return "v1," .. base64.encode(hashes.hmac_sha256(key, id .. "." .. timestamp .. "." .. body));
end

-- The headers of a request with this body.
local function sign_headers(key, id, body, now)
	local timestamp = ("%d"):format(math.floor(now));
	return {
		["Content-Type"] = "application/json";
		["webhook-id"] = id;
		["webhook-timestamp"] = timestamp;
		["webhook-signature"] = sign(key, id, timestamp, body);
	};
end

-- Whether any signature in the header was made with any of the keys; takes the same time wherever they differ.
local function has_good_signature(keys, id, timestamp, body, header)
	local good = false;
	for i = 1, #keys do
		local expected = sign(keys[i], id, timestamp, body);
		for signature in header:gmatch("%S+") do
			if hashes.equals(signature, expected) then good = true; end
		end
	end
	return good;
end

-- true, or nil, the HTTP status and what to put into the answer's JSON.
local function verify(keys, headers, body, now)
	if #body > max_body_bytes then return nil, 413, { error = "body is over 1 MiB" }; end
	local id, timestamp, signature = headers.webhook_id, headers.webhook_timestamp, headers.webhook_signature;
	if not id or id == "" then return nil, 400, { error = "header webhook-id is missing" }; end
	if #id > max_id_bytes then return nil, 400, { error = "header webhook-id is over 256 bytes" }; end
	if not timestamp then return nil, 400, { error = "header webhook-timestamp is missing" }; end
	if not timestamp:match("^%d+$") or #timestamp > 12 then
		return nil, 400, { error = "header webhook-timestamp is not Unix time in seconds" };
	end
	if not signature then return nil, 400, { error = "header webhook-signature is missing" }; end
	if #signature > 4096 or not (" " .. signature):find(" v1,", 1, true) then
		return nil, 400, { error = "header webhook-signature has no v1 signature" };
	end
	if not has_good_signature(keys, id, timestamp, body, signature) then
		return nil, 401, { error = "signature does not match" };
	end
	if math.abs(now - tonumber(timestamp)) > tolerance_seconds then
		return nil, 401, { error = "timestamp out of tolerance", now = math.floor(now) };
	end
	return true;
end

-- Remembers the body answered to a webhook-id, for so many seconds and so many ids.
local recorded_methods = {};
local recorded_mt = { __index = recorded_methods };

local function new_recorded(max_ids, seconds)
	return setmetatable({ answers = cache.new(max_ids), seconds = seconds }, recorded_mt);
end

function recorded_methods:get(id, now)
	local answer = self.answers:get(id);
	if answer and now - answer.at <= self.seconds then return answer.body; end
end

function recorded_methods:put(id, body, now)
	local oldest_id, oldest = self.answers:tail();
	while oldest and now - oldest.at > self.seconds do
		self.answers:set(oldest_id, nil);
		oldest_id, oldest = self.answers:tail();
	end
	self.answers:set(id, { body = body, at = now });
end

return {
	max_body_bytes = max_body_bytes;
	read_secret = read_secret;
	read_secrets = read_secrets;
	sign = sign;
	headers = sign_headers;
	verify = verify;
	new_recorded = new_recorded;
};
