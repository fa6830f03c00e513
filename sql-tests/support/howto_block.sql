-- Runs one example of extension/HOWTO.md, by its heading and its number there, on the side that its
-- first line names: \set block 'Choose a method 1' and \ir support/howto_block.sql.
SELECT language = 'sh' AS is_shell, body LIKE '-- on the source%' AS is_source, body LIKE '-- in another%' AS is_other, body
FROM howto WHERE key = :'block' \gset
INSERT INTO ran VALUES (:'block');
\setenv BLOCK :body
\! printf '%s\n' "$BLOCK" >"$HOWTO_FILE"
\set worked yes
\if :is_shell
\set worked `cd "$HOWTO_DIR" && bash -euo pipefail "$HOWTO_FILE" >out 2>&1 && echo yes || cat out`
\elif :is_source
\set worked `psql -Xq -v ON_ERROR_STOP=1 -c "SET client_min_messages = warning" -f "$HOWTO_FILE" "$SHOP" 2>&1 >/dev/null && echo yes`
\elif :is_other
\set worked `psql -Xq -v ON_ERROR_STOP=1 -c "SET client_min_messages = warning" -f "$HOWTO_FILE" "$OTHER" 2>&1 >/dev/null && echo yes`
\else
\i :file
\endif
SELECT is(:'worked'::text, 'yes', format('"%s" runs', :'block'));
