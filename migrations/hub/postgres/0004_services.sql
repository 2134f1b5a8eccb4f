-- What the functions of the hub keep: logs, money, licences, published files, models and kernels, news.

-- Errors of programs and browsers, and what people did in them where the site wants to know.
CREATE TABLE client_error_log (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    event text NOT NULL,
    error text NOT NULL,
    account_id uuid,
    project_id uuid,
    expire timestamptz
);
CREATE INDEX client_error_log_time ON client_error_log (time);
CREATE INDEX client_error_log_expire ON client_error_log (expire) WHERE expire IS NOT NULL;

CREATE TABLE webapp_errors (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    account_id uuid,
    project_id uuid,
    name text NOT NULL,
    value jsonb NOT NULL,
    expire timestamptz
);
CREATE INDEX webapp_errors_time ON webapp_errors (time);
CREATE INDEX webapp_errors_expire ON webapp_errors (expire) WHERE expire IS NOT NULL;

CREATE TABLE user_tracking (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    time timestamptz NOT NULL,
    event text NOT NULL,
    value jsonb NOT NULL,
    expire timestamptz
);
CREATE INDEX user_tracking_account_id ON user_tracking (account_id, time);
CREATE INDEX user_tracking_event ON user_tracking (event, time);
CREATE INDEX user_tracking_expire ON user_tracking (expire) WHERE expire IS NOT NULL;

CREATE TABLE analytics (
    token uuid PRIMARY KEY,
    data jsonb,
    data_time timestamptz,
    account_id uuid,
    account_id_time timestamptz,
    expire timestamptz
);
CREATE INDEX analytics_data_time ON analytics (data_time);
CREATE INDEX analytics_expire ON analytics (expire) WHERE expire IS NOT NULL;

-- Senders have a row of their own for what they do with a message, which they did not receive by that.
ALTER TABLE message_recipients ADD COLUMN received boolean NOT NULL DEFAULT true;
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
    project_id uuid NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    account_id uuid NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    message text NOT NULL DEFAULT '',
    time timestamptz NOT NULL,
    PRIMARY KEY (project_id, account_id)
);
CREATE INDEX project_join_requests_account_id ON project_join_requests (account_id);

-- Who was named in a file, for whoever tells them.
CREATE TABLE mentions (
    time timestamptz NOT NULL,
    project_id uuid NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path text NOT NULL,
    target uuid NOT NULL,
    source uuid NOT NULL,
    description text NOT NULL DEFAULT '',
    fragment_id text,
    priority bigint,
    action text,
    error text,
    users jsonb NOT NULL DEFAULT '{}',
    expire timestamptz,
    PRIMARY KEY (time, project_id, path, target)
);
CREATE INDEX mentions_project_id ON mentions (project_id, time);
CREATE INDEX mentions_action ON mentions (time) WHERE action IS NULL;

-- What projects say is in their folders.
CREATE TABLE listings (
    project_id uuid NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    compute_server_id bigint NOT NULL DEFAULT 0,
    path text NOT NULL,
    time timestamptz,
    interest timestamptz,
    listing jsonb,
    missing bigint,
    error text,
    deleted jsonb,
    PRIMARY KEY (project_id, path, compute_server_id)
);

-- Documents from before streams: where their history is kept as a blob.
CREATE TABLE syncstrings (
    string_id text PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path text NOT NULL,
    users jsonb NOT NULL DEFAULT '[]',
    archived uuid,
    last_active timestamptz
);
CREATE INDEX syncstrings_project_id ON syncstrings (project_id, path);

-- Files that projects show to everybody. The id is the SHA-1 of project and path.
CREATE TABLE public_paths (
    id text PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path text NOT NULL,
    name text,
    description text NOT NULL DEFAULT '',
    disabled boolean NOT NULL DEFAULT false,
    unlisted boolean NOT NULL DEFAULT false,
    authenticated boolean NOT NULL DEFAULT false,
    license text,
    created timestamptz,
    last_edited timestamptz,
    last_saved timestamptz,
    counter bigint NOT NULL DEFAULT 0,
    vhost text,
    cross_origin_isolation boolean NOT NULL DEFAULT false,
    auth jsonb,
    token text,
    compute_image text,
    site_license_id uuid,
    url text,
    image text,
    redirect text,
    jupyter_api boolean NOT NULL DEFAULT false
);
CREATE INDEX public_paths_project_id ON public_paths (project_id);
CREATE INDEX public_paths_last_edited ON public_paths (last_edited);
CREATE UNIQUE INDEX public_paths_name ON public_paths (project_id, lower(name));
CREATE INDEX public_paths_url ON public_paths (url) WHERE url IS NOT NULL;
CREATE INDEX public_paths_vhost ON public_paths (vhost) WHERE vhost IS NOT NULL;

CREATE TABLE public_path_stars (
    public_path_id text NOT NULL REFERENCES public_paths (id) ON DELETE CASCADE,
    account_id uuid NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    time timestamptz NOT NULL,
    PRIMARY KEY (public_path_id, account_id)
);
CREATE INDEX public_path_stars_account_id ON public_path_stars (account_id);

-- Projects that show something to everybody.
CREATE VIEW public_projects AS
    SELECT p.project_id, p.title, p.description FROM projects p
     WHERE NOT p.deleted AND EXISTS (
        SELECT 1 FROM public_paths s WHERE s.project_id = p.project_id AND NOT s.disabled AND NOT s.unlisted);

-- Money is in millionths of a dollar. What is credited has negative costs.
CREATE TABLE purchases (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL,
    account_id uuid NOT NULL,
    cost bigint,
    pending boolean NOT NULL DEFAULT false,
    cost_per_hour bigint,
    cost_so_far bigint,
    period_start timestamptz,
    period_end timestamptz,
    invoice_id text,
    project_id uuid,
    service text NOT NULL,
    description jsonb NOT NULL DEFAULT '{}',
    tag text,
    day_statement_id bigint,
    month_statement_id bigint,
    notes text
);
CREATE INDEX purchases_account_id ON purchases (account_id, time);
CREATE INDEX purchases_project_id ON purchases (project_id) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX purchases_invoice_id ON purchases (invoice_id);

CREATE TABLE purchase_quotas (
    account_id uuid NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    service text NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (account_id, service)
);

CREATE TABLE statements (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    interval_ text NOT NULL,
    account_id uuid NOT NULL,
    time timestamptz NOT NULL,
    balance bigint NOT NULL,
    total_charges bigint NOT NULL,
    num_charges bigint NOT NULL,
    total_credits bigint NOT NULL,
    num_credits bigint NOT NULL,
    paid_purchase_id bigint,
    automatic_payment timestamptz,
    last_sent timestamptz,
    notes text
);
CREATE INDEX statements_account_id ON statements (account_id, time);

CREATE TABLE subscriptions (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    account_id uuid NOT NULL,
    created timestamptz NOT NULL,
    cost bigint NOT NULL,
    interval_ text NOT NULL,
    current_period_start timestamptz,
    current_period_end timestamptz,
    latest_purchase_id bigint,
    status text NOT NULL,
    canceled_at timestamptz,
    canceled_reason text,
    resumed_at timestamptz,
    metadata jsonb NOT NULL DEFAULT '{}',
    notes text
);
CREATE INDEX subscriptions_account_id ON subscriptions (account_id);

CREATE TABLE vouchers (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    when_pay text NOT NULL,
    created_by uuid NOT NULL,
    created timestamptz NOT NULL,
    title text NOT NULL DEFAULT '',
    active timestamptz,
    expire timestamptz,
    cancel_by timestamptz,
    count bigint NOT NULL,
    cost bigint NOT NULL,
    tax bigint NOT NULL DEFAULT 0,
    notes text
);
CREATE INDEX vouchers_created_by ON vouchers (created_by);

CREATE TABLE site_licenses (
    id uuid PRIMARY KEY,
    title text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    info jsonb,
    activates timestamptz,
    expires timestamptz,
    created timestamptz,
    last_used timestamptz,
    managers jsonb NOT NULL DEFAULT '[]',
    quota jsonb,
    upgrades jsonb,
    run_limit bigint,
    subscription_id bigint
);
CREATE INDEX site_licenses_subscription_id ON site_licenses (subscription_id) WHERE subscription_id IS NOT NULL;

CREATE TABLE site_license_usage_log (
    license_id uuid NOT NULL,
    project_id uuid NOT NULL,
    start timestamptz NOT NULL,
    stop timestamptz,
    PRIMARY KEY (license_id, project_id, start)
);

-- What language models and kernels were asked, and what kernels answered.
CREATE TABLE openai_chatgpt_log (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    account_id uuid,
    project_id uuid,
    path text,
    system text,
    input text NOT NULL,
    history jsonb,
    output text,
    model text NOT NULL,
    tag text,
    prompt_tokens bigint,
    total_tokens bigint NOT NULL DEFAULT 0,
    duration bigint,
    expire timestamptz
);
CREATE INDEX openai_chatgpt_log_account_id ON openai_chatgpt_log (account_id, time);
CREATE INDEX openai_chatgpt_log_time ON openai_chatgpt_log (time);
CREATE INDEX openai_chatgpt_log_expire ON openai_chatgpt_log (expire) WHERE expire IS NOT NULL;

CREATE TABLE jupyter_api_cache (
    hash text PRIMARY KEY,
    output jsonb NOT NULL,
    created timestamptz NOT NULL,
    last_active timestamptz NOT NULL,
    expire timestamptz NOT NULL
);
CREATE INDEX jupyter_api_cache_expire ON jupyter_api_cache (expire);

CREATE TABLE jupyter_api_log (
    id uuid PRIMARY KEY,
    created timestamptz NOT NULL,
    account_id uuid,
    project_id uuid,
    path text,
    hash text NOT NULL,
    kernel text NOT NULL,
    tag text,
    duration bigint NOT NULL,
    expire timestamptz NOT NULL
);
CREATE INDEX jupyter_api_log_created ON jupyter_api_log (created);
CREATE INDEX jupyter_api_log_account_id ON jupyter_api_log (account_id, created);
CREATE INDEX jupyter_api_log_expire ON jupyter_api_log (expire);

-- What the site tells everybody.
CREATE TABLE news (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    date timestamptz NOT NULL,
    title text NOT NULL,
    text text NOT NULL DEFAULT '',
    tags jsonb NOT NULL DEFAULT '[]',
    url text,
    channel text NOT NULL DEFAULT 'announcement',
    hide boolean NOT NULL DEFAULT false,
    until timestamptz
);
CREATE INDEX news_date ON news (date);

CREATE TABLE system_notifications (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    text text NOT NULL,
    priority text NOT NULL DEFAULT 'info',
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX system_notifications_time ON system_notifications (time);

CREATE TABLE compute_images (
    id text PRIMARY KEY,
    src text,
    type text,
    display text,
    url text,
    descr text,
    path text,
    disabled boolean NOT NULL DEFAULT false
);

CREATE TABLE whitelabeling (
    id text PRIMARY KEY,
    theme jsonb NOT NULL DEFAULT '{}',
    settings jsonb NOT NULL DEFAULT '{}'
);

-- Accounts that somebody has put together, to share and pay.
CREATE TABLE account_groups (
    group_id uuid PRIMARY KEY,
    owner_account_ids jsonb NOT NULL DEFAULT '[]',
    member_account_ids jsonb NOT NULL DEFAULT '[]',
    billing_account_id uuid,
    title text NOT NULL DEFAULT '',
    color text
);
