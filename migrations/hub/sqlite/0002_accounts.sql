-- People, and everything by which they are known.

CREATE TABLE accounts (
    account_id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    -- The address from which the account was made.
    created_by TEXT,
    -- In lower case. Without one, somebody is anonymous or comes by another way of signing in.
    email_address TEXT,
    email_address_before_delete TEXT,
    email_address_verified TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(email_address_verified)),
    email_address_challenge TEXT CHECK (json_valid(email_address_challenge)),
    email_address_problem TEXT CHECK (json_valid(email_address_problem)),
    password_hash TEXT,
    first_name TEXT NOT NULL DEFAULT '',
    last_name TEXT NOT NULL DEFAULT '',
    name TEXT,
    org TEXT,
    groups TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(groups)),
    banned INTEGER NOT NULL DEFAULT 0 CHECK (banned IN (0, 1)),
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    unlisted INTEGER NOT NULL DEFAULT 0 CHECK (unlisted IN (0, 1)),
    profile TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(profile)),
    editor_settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(editor_settings)),
    other_settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(other_settings)),
    terminal TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(terminal)),
    autosave INTEGER,
    font_size INTEGER,
    evaluate_key TEXT,
    ssh_keys TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(ssh_keys)),
    tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    tours TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tours)),
    sign_up_usage_intent TEXT,
    owner_id TEXT,
    -- Milliseconds after which the account is deleted.
    ephemeral INTEGER,
    customize TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(customize)),
    creation_actions_done INTEGER NOT NULL DEFAULT 0 CHECK (creation_actions_done IN (0, 1)),
    last_active INTEGER,
    lti_id TEXT CHECK (json_valid(lti_id)),
    lti_data TEXT CHECK (json_valid(lti_data)),
    notes TEXT,
    -- In millionths of a dollar, as everything that is money.
    balance INTEGER,
    min_balance INTEGER,
    balance_alert INTEGER CHECK (balance_alert IN (0, 1)),
    auto_balance TEXT CHECK (json_valid(auto_balance)),
    purchase_closing_day INTEGER,
    stripe_customer_id TEXT,
    stripe_customer TEXT CHECK (json_valid(stripe_customer)),
    email_daily_statements INTEGER CHECK (email_daily_statements IN (0, 1)),
    unread_message_count INTEGER,
    last_message_summary INTEGER,
    -- Grows when everything that was let in as this account must be let in anew.
    session_epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX accounts_email_address_unique ON accounts (email_address);
CREATE UNIQUE INDEX accounts_name_unique ON accounts (lower(name));
CREATE INDEX accounts_created ON accounts (created);
CREATE INDEX accounts_last_active ON accounts (last_active);
CREATE INDEX accounts_first_name ON accounts (lower(first_name));
CREATE INDEX accounts_last_name ON accounts (lower(last_name));
CREATE INDEX accounts_org ON accounts (org) WHERE org IS NOT NULL;
CREATE INDEX accounts_owner_id ON accounts (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX accounts_ephemeral ON accounts (created) WHERE ephemeral IS NOT NULL;

-- Sessions of browsers. The hash is of a random token, or the original's if the session was imported.
CREATE TABLE remember_me (
    hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    created INTEGER NOT NULL,
    expire INTEGER NOT NULL,
    last_used INTEGER,
    ip TEXT,
    user_agent TEXT,
    kind TEXT NOT NULL CHECK (kind IN ('password', 'sso', 'impersonation', 'ephemeral'))
) STRICT;
CREATE INDEX remember_me_account_id ON remember_me (account_id);
CREATE INDEX remember_me_expire ON remember_me (expire);

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    -- The project that the key is for; otherwise it is for the whole account.
    project_id TEXT,
    name TEXT NOT NULL,
    trunc TEXT NOT NULL,
    hash TEXT NOT NULL,
    created INTEGER NOT NULL,
    expire INTEGER,
    last_active INTEGER
) STRICT;
CREATE INDEX api_keys_account_id ON api_keys (account_id);
CREATE INDEX api_keys_project_id ON api_keys (project_id) WHERE project_id IS NOT NULL;
CREATE INDEX api_keys_expire ON api_keys (expire) WHERE expire IS NOT NULL;

-- Tokens with which an administrator, or the owner of an account, signs in as it once.
CREATE TABLE auth_tokens (
    auth_token_hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    created_by TEXT NOT NULL,
    is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    created INTEGER NOT NULL,
    expire INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX auth_tokens_account_id ON auth_tokens (account_id);
CREATE INDEX auth_tokens_expire ON auth_tokens (expire);

-- Letters with which a password is set anew. The hash is of the token in the letter.
CREATE TABLE password_reset (
    hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    email_address TEXT NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX password_reset_account_id ON password_reset (account_id);
CREATE INDEX password_reset_expire ON password_reset (expire);

-- Without a row that is not disabled, everybody may sign up.
CREATE TABLE registration_tokens (
    token TEXT PRIMARY KEY,
    descr TEXT NOT NULL DEFAULT '',
    counter INTEGER NOT NULL DEFAULT 0,
    limit_ INTEGER,
    -- When it ends to be valid; it is kept, so that who asks is told why.
    expires INTEGER,
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    -- Milliseconds that accounts made with it live.
    ephemeral INTEGER,
    customize TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(customize))
) STRICT;

-- What happens when an account with this address is made.
CREATE TABLE account_creation_actions (
    id TEXT PRIMARY KEY,
    email_address TEXT NOT NULL,
    action TEXT NOT NULL CHECK (json_valid(action)),
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX account_creation_actions_email_address ON account_creation_actions (email_address);
CREATE INDEX account_creation_actions_expire ON account_creation_actions (expire);

CREATE TABLE passport_links (
    strategy TEXT NOT NULL,
    external_id TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    profile TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(profile)),
    PRIMARY KEY (strategy, external_id)
) STRICT;
CREATE INDEX passport_links_account_id ON passport_links (account_id);

CREATE TABLE passport_settings (
    strategy TEXT PRIMARY KEY,
    conf TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(conf)),
    info TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(info))
) STRICT;

CREATE TABLE passport_store (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX passport_store_expire ON passport_store (expire);

CREATE TABLE email_counter (
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    time INTEGER NOT NULL,
    count INTEGER NOT NULL,
    expire INTEGER NOT NULL,
    PRIMARY KEY (account_id, time)
) STRICT;
CREATE INDEX email_counter_expire ON email_counter (expire);

CREATE TABLE organizations (
    organization_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    link TEXT NOT NULL DEFAULT '',
    email_address TEXT NOT NULL DEFAULT '',
    profile TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(profile)),
    created INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX organizations_name_unique ON organizations (lower(name));

CREATE TABLE organization_members (
    organization_id TEXT NOT NULL REFERENCES organizations (organization_id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    is_admin INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    PRIMARY KEY (organization_id, account_id)
) STRICT;
CREATE INDEX organization_members_account_id ON organization_members (account_id);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sent INTEGER,
    from_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    thread_id INTEGER
) STRICT;
CREATE INDEX messages_from_id ON messages (from_id);
CREATE INDEX messages_sent ON messages (sent);

CREATE TABLE message_recipients (
    message_id INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL,
    read INTEGER NOT NULL DEFAULT 0 CHECK (read IN (0, 1)),
    saved INTEGER NOT NULL DEFAULT 0 CHECK (saved IN (0, 1)),
    starred INTEGER NOT NULL DEFAULT 0 CHECK (starred IN (0, 1)),
    liked INTEGER NOT NULL DEFAULT 0 CHECK (liked IN (0, 1)),
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    -- To be removed when everybody who has the message says so.
    expired INTEGER NOT NULL DEFAULT 0 CHECK (expired IN (0, 1)),
    PRIMARY KEY (message_id, account_id)
) STRICT;
CREATE INDEX message_recipients_account_id ON message_recipients (account_id, message_id);
