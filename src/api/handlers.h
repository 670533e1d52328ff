// Every handler of the route table, by the file it lives in.
#pragma once

#include "api/context.h"

namespace turnpike::api {

using Handled = boost::asio::awaitable<Reply>;

// jobs.cpp
Handled create_job(Context& context);
Handled get_job(Context& context);
Handled list_jobs(Context& context);
Handled cancel_job(Context& context);
Handled retry_job(Context& context);
Handled run_endpoint(Context& context);
// runs.cpp
Handled create_run(Context& context);
Handled get_run(Context& context);
Handled list_runs(Context& context);
Handled cancel_run(Context& context);
Handled retry_run(Context& context);
Handled run_workflow_endpoint(Context& context);
// why.cpp
Handled explain_job(Context& context);
// why_refused.cpp
Handled explain_refusal(Context& context);
// events.cpp
Handled stream_job_events(Context& context);
Handled stream_run_events(Context& context);
Handled stream_events(Context& context);
// socket.cpp
Handled open_socket(Context& context);
// artifacts.cpp
Handled upload_artifact(Context& context);
Handled serve_artifact(Context& context);
// work.cpp
Handled claim_work(Context& context);
Handled beat_work(Context& context);
Handled progress_work(Context& context);
Handled complete_work(Context& context);
Handled fail_work(Context& context);
// work_files.cpp
Handled upload_work_file(Context& context);
Handled serve_work_input(Context& context);
// accounts.cpp
Handled create_ticket(Context& context);
Handled list_accounts(Context& context);
Handled get_account(Context& context);
// subscription.cpp
Handled current_subscription(Context& context);
Handled subscription_usage(Context& context);
Handled get_flags(Context& context);
Handled get_subscription(Context& context);
Handled put_subscription(Context& context);
Handled put_account(Context& context);
Handled create_grant(Context& context);
Handled revoke_grant(Context& context);
// usage_admin.cpp
Handled admin_usage(Context& context);
Handled admin_costs(Context& context);
// keys_admin.cpp
Handled create_key(Context& context);
Handled list_keys(Context& context);
Handled revoke_key(Context& context);
Handled rotate_key(Context& context);
// policy_admin.cpp
Handled list_plans(Context& context);
Handled get_policy(Context& context);
Handled apply_policy(Context& context);
Handled get_queue(Context& context);
// policy_versions.cpp
Handled list_policy_versions(Context& context);
Handled get_policy_version(Context& context);
Handled diff_policy_versions(Context& context);
Handled roll_back_policy(Context& context);
Handled list_audit(Context& context);
// operator.cpp
Handled admin_models(Context& context);
Handled set_version_status(Context& context);
Handled pin_model(Context& context);
Handled start_canary(Context& context);
Handled approve_canary(Context& context);
Handled roll_back_canary(Context& context);
Handled pause_model(Context& context);
Handled get_freeze(Context& context);
Handled set_freeze(Context& context);
Handled admin_providers(Context& context);
Handled pause_provider(Context& context);
// discoveries.cpp
Handled list_discoveries(Context& context);
Handled list_watches(Context& context);
Handled look_at_lists(Context& context);
// webhooks.cpp
Handled create_webhook(Context& context);
Handled list_webhooks(Context& context);
Handled get_webhook(Context& context);
Handled change_webhook(Context& context);
Handled delete_webhook(Context& context);
Handled rotate_webhook(Context& context);
Handled list_deliveries(Context& context);
Handled redeliver(Context& context);
// alerts.cpp
Handled list_alerts(Context& context);
Handled list_alert_rules(Context& context);
// openai.cpp
Handled call_wire(Context& context);
Handled list_models(Context& context);
Handled get_model(Context& context);
// system.cpp
Handled get_health(Context& context);
Handled get_ready(Context& context);
Handled get_metrics(Context& context);
Handled get_openapi(Context& context);
Handled get_docs(Context& context);

}  // namespace turnpike::api
