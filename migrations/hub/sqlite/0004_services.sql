-- What the functions of the hub keep: logs, money, licences, published files, models and kernels, news.

-- Errors of programs and browsers, and what people did in them where the site wants to know.
CREATE TABLE client_error_log (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    error TEXT NOT NULL,
    account_id TEXT,
    project_id TEXT,
    expire INTEGER
) STRICT;
CREATE INDEX client_error_log_time ON client_error_log (time);
CREATE INDEX client_error_log_expire ON client_error_log (expire) WHERE expire IS NOT NULL;

CREATE TABLE webapp_errors (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    account_id TEXT,
    project_id TEXT,
    name TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    expire INTEGER
) STRICT;
CREATE INDEX webapp_errors_time ON webapp_errors (time);
CREATE INDEX webapp_errors_expire ON webapp_errors (expire) WHERE expire IS NOT NULL;

CREATE TABLE user_tracking (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    expire INTEGER
) STRICT;
CREATE INDEX user_tracking_account_id ON user_tracking (account_id, time);
CREATE INDEX user_tracking_event ON user_tracking (event, time);
CREATE INDEX user_tracking_expire ON user_tracking (expire) WHERE expire IS NOT NULL;

CREATE TABLE analytics (
    token TEXT PRIMARY KEY,
    data TEXT CHECK (json_valid(data)),
    data_time INTEGER,
    account_id TEXT,
    account_id_time INTEGER,
    expire INTEGER
) STRICT;
CREATE INDEX analytics_data_time ON analytics (data_time);
CREATE INDEX analytics_expire ON analytics (expire) WHERE expire IS NOT NULL;

-- Senders have a row of their own for what they do with a message, which they did not receive by that.
ALTER TABLE message_recipients ADD COLUMN received INTEGER NOT NULL DEFAULT 1 CHECK (received IN (0, 1));
CREATE INDEX messages_thread_id ON messages (thread_id) WHERE thread_id IS NOT NULL;
CREATE VIEW message_views AS
    SELECT r.message_id, r.account_id, r.received, r.read, r.saved, r.starred, r.liked, r.deleted, r.expired,
           m.sent, m.from_id, m.subject, m.body, m.thread_id
      FROM message_recipients r JOIN messages m ON m.id = r.message_id;

-- Who is in an organization, as its members see it.
CREATE VIEW organization_views AS
    SELECT o.organization_id, o.name, o.title, o.description, o.link, o.email_address, o.profile, o.created,
           m.account_id, m.is_admin
      FROM organizations o JOIN organization_members m ON m.organization_id = o.organization_id
     WHERE NOT o.deleted;

-- Who is in a project, as the others in it see them.
CREATE VIEW project_collaborators AS
    SELECT m.project_id, m.account_id, m.grp, a.first_name, a.last_name, a.name, a.profile, m.last_active
      FROM project_members m JOIN accounts a ON a.account_id = m.account_id
     WHERE NOT a.deleted;

-- Who would like to be let into a project.
CREATE TABLE project_join_requests (
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    message TEXT NOT NULL DEFAULT '',
    time INTEGER NOT NULL,
    PRIMARY KEY (project_id, account_id)
) STRICT;
CREATE INDEX project_join_requests_account_id ON project_join_requests (account_id);

-- Who was named in a file, for whoever tells them.
CREATE TABLE mentions (
    time INTEGER NOT NULL,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    target TEXT NOT NULL,
    source TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    fragment_id TEXT,
    priority INTEGER,
    action TEXT,
    error TEXT,
    users TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(users)),
    expire INTEGER,
    PRIMARY KEY (time, project_id, path, target)
) STRICT;
CREATE INDEX mentions_project_id ON mentions (project_id, time);
CREATE INDEX mentions_action ON mentions (time) WHERE action IS NULL;

-- What projects say is in their folders.
CREATE TABLE listings (
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    compute_server_id INTEGER NOT NULL DEFAULT 0,
    path TEXT NOT NULL,
    time INTEGER,
    interest INTEGER,
    listing TEXT CHECK (json_valid(listing)),
    missing INTEGER,
    error TEXT,
    deleted TEXT CHECK (json_valid(deleted)),
    PRIMARY KEY (project_id, path, compute_server_id)
) STRICT;

-- Documents from before streams: where their history is kept as a blob.
CREATE TABLE syncstrings (
    string_id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    users TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(users)),
    archived TEXT,
    last_active INTEGER
) STRICT;
CREATE INDEX syncstrings_project_id ON syncstrings (project_id, path);

-- Files that projects show to everybody. The id is the SHA-1 of project and path.
CREATE TABLE public_paths (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    name TEXT,
    description TEXT NOT NULL DEFAULT '',
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    unlisted INTEGER NOT NULL DEFAULT 0 CHECK (unlisted IN (0, 1)),
    authenticated INTEGER NOT NULL DEFAULT 0 CHECK (authenticated IN (0, 1)),
    license TEXT,
    created INTEGER,
    last_edited INTEGER,
    last_saved INTEGER,
    counter INTEGER NOT NULL DEFAULT 0,
    vhost TEXT,
    cross_origin_isolation INTEGER NOT NULL DEFAULT 0 CHECK (cross_origin_isolation IN (0, 1)),
    auth TEXT CHECK (json_valid(auth)),
    token TEXT,
    compute_image TEXT,
    site_license_id TEXT,
    url TEXT,
    image TEXT,
    redirect TEXT,
    jupyter_api INTEGER NOT NULL DEFAULT 0 CHECK (jupyter_api IN (0, 1))
) STRICT;
CREATE INDEX public_paths_project_id ON public_paths (project_id);
CREATE INDEX public_paths_last_edited ON public_paths (last_edited);
CREATE UNIQUE INDEX public_paths_name ON public_paths (project_id, lower(name));
CREATE INDEX public_paths_url ON public_paths (url) WHERE url IS NOT NULL;
CREATE INDEX public_paths_vhost ON public_paths (vhost) WHERE vhost IS NOT NULL;

CREATE TABLE public_path_stars (
    public_path_id TEXT NOT NULL REFERENCES public_paths (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    time INTEGER NOT NULL,
    PRIMARY KEY (public_path_id, account_id)
) STRICT;
CREATE INDEX public_path_stars_account_id ON public_path_stars (account_id);

-- Projects that show something to everybody.
CREATE VIEW public_projects AS
    SELECT p.project_id, p.title, p.description FROM projects p
     WHERE NOT p.deleted AND EXISTS (
        SELECT 1 FROM public_paths s WHERE s.project_id = p.project_id AND NOT s.disabled AND NOT s.unlisted);

-- Money is in millionths of a dollar. What is credited has negative costs.
CREATE TABLE purchases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    cost INTEGER,
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending IN (0, 1)),
    cost_per_hour INTEGER,
    cost_so_far INTEGER,
    period_start INTEGER,
    period_end INTEGER,
    invoice_id TEXT,
    project_id TEXT,
    service TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(description)),
    tag TEXT,
    day_statement_id INTEGER,
    month_statement_id INTEGER,
    notes TEXT
) STRICT;
CREATE INDEX purchases_account_id ON purchases (account_id, time);
CREATE INDEX purchases_project_id ON purchases (project_id) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX purchases_invoice_id ON purchases (invoice_id);

CREATE TABLE purchase_quotas (
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    service TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (account_id, service)
) STRICT;

CREATE TABLE statements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    interval_ TEXT NOT NULL,
    account_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    total_charges INTEGER NOT NULL,
    num_charges INTEGER NOT NULL,
    total_credits INTEGER NOT NULL,
    num_credits INTEGER NOT NULL,
    paid_purchase_id INTEGER,
    automatic_payment INTEGER,
    last_sent INTEGER,
    notes TEXT
) STRICT;
CREATE INDEX statements_account_id ON statements (account_id, time);

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL,
    created INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    interval_ TEXT NOT NULL,
    current_period_start INTEGER,
    current_period_end INTEGER,
    latest_purchase_id INTEGER,
    status TEXT NOT NULL,
    canceled_at INTEGER,
    canceled_reason TEXT,
    resumed_at INTEGER,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    notes TEXT
) STRICT;
CREATE INDEX subscriptions_account_id ON subscriptions (account_id);

CREATE TABLE vouchers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    when_pay TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created INTEGER NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    active INTEGER,
    expire INTEGER,
    cancel_by INTEGER,
    count INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    tax INTEGER NOT NULL DEFAULT 0,
    notes TEXT
) STRICT;
CREATE INDEX vouchers_created_by ON vouchers (created_by);

CREATE TABLE site_licenses (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    info TEXT CHECK (json_valid(info)),
    activates INTEGER,
    expires INTEGER,
    created INTEGER,
    last_used INTEGER,
    managers TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(managers)),
    quota TEXT CHECK (json_valid(quota)),
    upgrades TEXT CHECK (json_valid(upgrades)),
    run_limit INTEGER,
    subscription_id INTEGER
) STRICT;
CREATE INDEX site_licenses_subscription_id ON site_licenses (subscription_id) WHERE subscription_id IS NOT NULL;

CREATE TABLE site_license_usage_log (
    license_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER,
    PRIMARY KEY (license_id, project_id, start)
) STRICT;

-- What language models and kernels were asked, and what kernels answered.
CREATE TABLE openai_chatgpt_log (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    account_id TEXT,
    project_id TEXT,
    path TEXT,
    system TEXT,
    input TEXT NOT NULL,
    history TEXT CHECK (json_valid(history)),
    output TEXT,
    model TEXT NOT NULL,
    tag TEXT,
    prompt_tokens INTEGER,
    total_tokens INTEGER NOT NULL DEFAULT 0,
    duration INTEGER,
    expire INTEGER
) STRICT;
CREATE INDEX openai_chatgpt_log_account_id ON openai_chatgpt_log (account_id, time);
CREATE INDEX openai_chatgpt_log_time ON openai_chatgpt_log (time);
CREATE INDEX openai_chatgpt_log_expire ON openai_chatgpt_log (expire) WHERE expire IS NOT NULL;

CREATE TABLE jupyter_api_cache (
    hash TEXT PRIMARY KEY,
    output TEXT NOT NULL CHECK (json_valid(output)),
    created INTEGER NOT NULL,
    last_active INTEGER NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX jupyter_api_cache_expire ON jupyter_api_cache (expire);

CREATE TABLE jupyter_api_log (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    account_id TEXT,
    project_id TEXT,
    path TEXT,
    hash TEXT NOT NULL,
    kernel TEXT NOT NULL,
    tag TEXT,
    duration INTEGER NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX jupyter_api_log_created ON jupyter_api_log (created);
CREATE INDEX jupyter_api_log_account_id ON jupyter_api_log (account_id, created);
CREATE INDEX jupyter_api_log_expire ON jupyter_api_log (expire);

-- What the site tells everybody.
CREATE TABLE news (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    date INTEGER NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    url TEXT,
    channel TEXT NOT NULL DEFAULT 'announcement',
    hide INTEGER NOT NULL DEFAULT 0 CHECK (hide IN (0, 1)),
    until INTEGER
) STRICT;
CREATE INDEX news_date ON news (date);

CREATE TABLE system_notifications (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    text TEXT NOT NULL,
    priority TEXT NOT NULL DEFAULT 'info',
    done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1))
) STRICT;
CREATE INDEX system_notifications_time ON system_notifications (time);

CREATE TABLE compute_images (
    id TEXT PRIMARY KEY,
    src TEXT,
    type TEXT,
    display TEXT,
    url TEXT,
    descr TEXT,
    path TEXT,
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

CREATE TABLE whitelabeling (
    id TEXT PRIMARY KEY,
    theme TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(theme)),
    settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings))
) STRICT;

-- Accounts that somebody has put together, to share and pay.
CREATE TABLE account_groups (
    group_id TEXT PRIMARY KEY,
    owner_account_ids TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(owner_account_ids)),
    member_account_ids TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(member_account_ids)),
    billing_account_id TEXT,
    title TEXT NOT NULL DEFAULT '',
    color TEXT
) STRICT;
