"""What the reason codes of a manifest mean. Lines carry them, reports count them."""

REFUSAL_CODES = {
    "no_url": "the cell of the address is empty",
    "url_unreadable": "there is no address in the cell",
    "url_malformed": "the address cannot be taken apart",
    "url_too_long": "the address is longer than any",
    "scheme_refused": "the address is not http or https",
    "local_path": "the cell holds a path of somebody's disk",
    "credentials_in_url": "the address carries a user name",
    "control_characters": "the address holds control characters",
    "path_refused": "the address climbs out of its folder with ..",
    "not_a_video": "the address leads to a page that is no single video",
    "bv_malformed": "the id cannot be one: misread, or cut",
    "short_link_damaged": "the short link was misread, and nothing tells what it was",
    "file_name_unwritable": "the name of the file is no text in UTF-8",
    "key_refused": "a canonical list gave a key that its address does not lead to",
}
"""Why a line has no key."""

ROW_CODES = {
    # Addresses
    "title_before_url": "the title stood before the address",
    "stray_characters": "one or two stray characters stood before the address",
    "text_after_url": "text stood behind the address",
    "several_urls": "more addresses followed; the first one counts",
    "invisible_characters": "characters that nobody sees were taken out of the address",
    "scheme_repaired": "https:// was damaged or missing",
    "host_repaired": "the host was mistyped",
    "bare_host": "bilibili.com without www",
    "mobile_host": "m.bilibili.com",
    "bare_id": "the cell held an id and no address",
    "bv_repaired": "the id began with bv or BVI instead of BV1",
    "av_id": "an av number, turned into the BV id of the same video",
    "bangumi": "an episode of a series",
    "short_link": "a short link of b23.tv",
    "list_url": "a page of a list or a player that names the video in its parameters",
    "collection_page": "a page of a collection; the address may have stayed behind while the viewer went on",
    "part_in_url": "a part of a video in several parts (?p=)",
    "part_unreadable": "?p= is no number of a part; taken as part 1",
    "time_in_url": "a start time in the address (?t=), left out",
    "account_tracker_removed": "the account of whoever copied the address (vd_source)",
    "share_tracker_removed": "the person or session that shared the address (mid, share_session_id)",
    "query_removed": "other parameters that say where a link was found",
    "fragment_removed": "what follows a # in the address",
    # Titles
    "url_in_title": "the title held the same address",
    "url_in_title_differs": "the title held an address of another video, or one beside a refused address",
    "url_from_title": "the address was taken from the title",
    "title_newline": "a line break in the title",
    "title_stray_letter": "a stray h behind the title",
    "title_site_suffix": "the name of the site behind the title",
    "title_unwrapped": "brackets around the whole title",
    "title_unbalanced": "a bracket without its other half, left as it is",
    "title_cut": "the title was longer than any",
    # Times
    "no_times": "nothing is marked though there are columns for it",
    "times_unusable": "times are given and mark nothing",
    "time_unreadable": "a cell that is no time",
    "five_digit_time": "five digits, HMMSS or MMMSS",
    "ambiguous_time": "a time that can be read two ways; the real duration settles it",
    "seconds_over_59": "seconds of 60 and more, carried into the minutes",
    "leading_zeros_lost": "fewer than four digits, filled up with zeros",
    "float_time": "a number with .0, as a spreadsheet leaves it",
    "fullwidth_time": "full-width characters",
    "start_missing": "an end without a start",
    "end_missing": "a start without an end",
    "first_pair_empty": "the first pair of times is empty, a later one is not",
    "columns_shifted": "address and title stand once more where the first pair of times belongs",
    "shifted_url_differs": "... and that address names another video",
    "zero_length": "a segment that ends where it starts, left out",
    "reversed": "a segment that ended before it started, turned round",
    "unsorted": "a segment that starts before the one in front of it",
    "overlapping": "segments that overlap, made one",
    "abutting": "a segment that starts where the other ends, made one",
    "short_segment": "a segment shorter than 5 s",
    "long_segment": "a segment longer than 10 min",
}
"""What was amiss in a row and repaired or kept."""

LINE_CODES = {
    "duplicate_in_file": "several rows of one list name the video",
    "duplicate_across_files": "several lists name the video",
    "static_wins": "lists disagree about its kind; it counts as static",
    "titles_differ": "its rows have different titles: see collection_page",
    "same_title": "a short link with the title of another line: likely the same video",
    "short_link_resolved": "it is known which video the short link leads to",
    "short_link_gone": "the short link leads nowhere any more",
    "short_link_foreign": "the short link leads to something that is no Bilibili video; the line has lost its key",
    "short_link_unresolved": "nobody could be asked where the short link leads",
}
"""What is known of a video only when all rows have been read."""

FILE_CODES = {
    "gb18030": "the file is GB18030, not UTF-8",
    "header_repaired": "the column of addresses is misspelt",
    "unknown_column": "a column that nothing is known about",
}
"""What was odd about a file as a whole."""

CODES = {**REFUSAL_CODES, **ROW_CODES, **LINE_CODES, **FILE_CODES}
