"""What PostgreSQL's own functions do: the lists that were checked by hand.

A function of pg_catalog that PostgreSQL calls immutable or stable changes nothing, the few of RUNS_SQL apart. A
volatile one changes nothing only if it is in HARMLESS. Whatever is in no list is taken to write.
"""

from __future__ import annotations

HARMLESS = frozenset(
    """
    amvalidate bernoulli system clock_timestamp current_query currtid2 currval lastval gen_random_uuid uuidv4 uuidv7
    lo_get loread lo_tell lo_tell64 lo_lseek lo_lseek64 lo_close
    pg_available_wal_summaries pg_blocking_pids pg_collation_actual_version pg_control_checkpoint pg_control_init
    pg_control_recovery pg_control_system pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn
    pg_current_wal_lsn pg_database_collation_actual_version pg_database_size pg_get_aios
    pg_get_backend_memory_contexts pg_get_loaded_modules pg_get_multixact_members pg_get_sequence_data
    pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_get_wait_events pg_get_wal_replay_pause_state
    pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_hba_file_rules pg_ident_file_mappings
    pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
    pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    pg_lock_status pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir
    pg_ls_replslotdir pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir pg_notification_queue_usage
    pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_read_binary_file pg_read_file pg_relation_size
    pg_replication_origin_progress pg_replication_origin_session_is_setup pg_replication_origin_session_progress
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_all_file_settings
    pg_show_replication_origin_status pg_sleep pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_file
    pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned
    pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size
    pg_wal_summary_contents pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status
    random random_normal timeofday
    """.split()  # noqa: SIM905
)
"""Volatile, and yet they change nothing: they answer with the clock, chance, sizes, statistics, files."""

EFFECTS = frozenset(
    """
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_cancel_backend pg_terminate_backend
    pg_log_backend_memory_contexts pg_log_standby_snapshot pg_notify pg_reload_conf pg_rotate_logfile
    pg_export_snapshot pg_stat_force_next_flush pg_stat_reset pg_stat_reset_backend_stats
    pg_stat_reset_replication_slot pg_stat_reset_shared pg_stat_reset_single_function_counters
    pg_stat_reset_single_table_counters pg_stat_reset_slru pg_stat_reset_subscription_stats pg_promote
    pg_wal_replay_pause pg_wal_replay_resume set_config setseed
    """.split()  # noqa: SIM905
)
"""They write no data, but others feel them, or they outlive the statement: never readOnly."""

RUNS_SQL = {
    "query_to_xml": 0,
    "query_to_xmlschema": 0,
    "query_to_xml_and_xmlschema": 0,
    "ts_stat": 0,
    "ts_rewrite": 1,
}
"""They run the SQL text in this argument (from 0). ts_rewrite only with two arguments."""

READS_RELATION = frozenset(("table_to_xml", "table_to_xmlschema", "table_to_xml_and_xmlschema"))
"""They read the relation that the first argument names."""

READS_UNNAMED = {
    "schema_to_xml": "it reads every table of a schema",
    "schema_to_xmlschema": "it reads every table of a schema",
    "schema_to_xml_and_xmlschema": "it reads every table of a schema",
    "database_to_xml": "it reads every table of the database",
    "database_to_xmlschema": "it reads every table of the database",
    "database_to_xml_and_xmlschema": "it reads every table of the database",
    "cursor_to_xml": "it reads a cursor by its name",
    "cursor_to_xmlschema": "it reads a cursor by its name",
    "pg_logical_slot_get_changes": "it runs an output plugin",
    "pg_logical_slot_get_binary_changes": "it runs an output plugin",
    "pg_logical_slot_peek_changes": "it runs an output plugin",
    "pg_logical_slot_peek_binary_changes": "it runs an output plugin",
}
"""What they reach does not stand in the text: opaque."""

SEQUENCES = {"nextval": "write", "setval": "write", "currval": "read"}
"""They touch the sequence that the first argument names."""

CONSTRUCTORS = frozenset(
    ("range_constructor2", "range_constructor3", "multirange_constructor0", "multirange_constructor1")
) | frozenset(("multirange_constructor2",))
"""What CREATE TYPE … AS RANGE makes: functions in a user's schema with PostgreSQL's own code."""

DANGEROUS = frozenset(
    """
    pg_read_file pg_read_binary_file pg_stat_file pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir
    pg_ls_archive_statusdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir
    lo_import lo_export lo_get lo_put lo_unlink lo_from_bytea lo_create lo_creat loread lowrite lo_open lo_truncate
    lo_truncate64 pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_switch_wal
    pg_create_restore_point pg_backup_start pg_backup_stop pg_promote pg_wal_replay_pause pg_wal_replay_resume
    pg_create_logical_replication_slot pg_create_physical_replication_slot pg_drop_replication_slot
    pg_replication_slot_advance pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_logical_slot_get_changes pg_logical_slot_get_binary_changes pg_logical_slot_peek_changes
    pg_logical_slot_peek_binary_changes pg_replication_origin_create pg_replication_origin_drop
    pg_replication_origin_advance pg_import_system_collations pg_show_all_file_settings pg_hba_file_rules
    pg_ident_file_mappings pg_log_backend_memory_contexts query_to_xml query_to_xmlschema query_to_xml_and_xmlschema
    cursor_to_xml table_to_xml schema_to_xml database_to_xml set_config pg_sleep pg_sleep_for pg_sleep_until
    pg_logical_emit_message pg_stat_reset pg_restore_relation_stats pg_restore_attribute_stats
    pg_clear_relation_stats pg_clear_attribute_stats
    """.split()  # noqa: SIM905
)
"""Of pg_catalog, and nothing that an agent should call unasked: files, large objects, other sessions, WAL, slots."""


def does(name: str, volatility: str) -> str:
    """What a function of pg_catalog does: "reads", "effect" (no data, but not readOnly) or "writes"."""
    if volatility != "v" or name in HARMLESS or name in RUNS_SQL:
        return "reads"
    return "effect" if name in EFFECTS else "writes"
