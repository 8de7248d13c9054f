# What programs expect of jq and jaq does not define.
def toarray: if isarray then . else [.] end;
def ascii: [.] | implode;
def IN(values): any(values == .; .);
def IN(source; values): any(source == values; .);
def INDEX(rows; key): reduce rows as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);

def @csv:
  map(if isstring then "\"" + gsub("\""; "\"\"") + "\"" elif isarray or isobject then error("an array or object is no cell")
      elif . == null then "" else tojson end) | join(",");
def @tsv:
  map(if isstring then gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r")
      elif isarray or isobject then error("an array or object is no cell") elif . == null then "" else tojson end) | join("\t");
