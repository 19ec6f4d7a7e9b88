"""Reason codes of a manifest. Lines carry them, reports count them."""

REFUSAL_CODES = {
    "no_url": "the address cell is empty",
    "url_unreadable": "the cell holds no address",
    "url_malformed": "the address cannot be parsed",
    "url_too_long": "the address is too long",
    "scheme_refused": "the address is not http or https",
    "local_path": "the cell holds a local path",
    "credentials_in_url": "the address contains a user name",
    "control_characters": "the address contains control characters",
    "path_refused": "the path of the address contains ..",
    "not_a_video": "the address is not the page of a single video",
    "bv_malformed": "the id is invalid: misread, or cut",
    "short_link_damaged": "the short link was misread and cannot be repaired",
    "file_name_unwritable": "the file name is not valid UTF-8",
    "key_refused": "the key in a canonical list does not match its address",
}
"""Why a line has no key."""

ROW_CODES = {
    # Addresses
    "title_before_url": "the title was in front of the address",
    "stray_characters": "one or two stray characters in front of the address",
    "text_after_url": "text after the address",
    "several_urls": "several addresses; the first one counts",
    "invisible_characters": "invisible characters removed from the address",
    "scheme_repaired": "https:// was damaged or missing",
    "host_repaired": "the host was mistyped",
    "bare_host": "bilibili.com without www",
    "mobile_host": "m.bilibili.com",
    "bare_id": "an id instead of an address",
    "bv_repaired": "the id began with bv or BVI instead of BV1",
    "av_id": "an av number, converted to the BV id of the same video",
    "bangumi": "an episode of a series",
    "short_link": "a short link of b23.tv",
    "list_url": "a list or player page that names the video in its parameters",
    "collection_page": "a page of a collection; its address may belong to a previously watched video",
    "part_in_url": "one part of a video with several parts (?p=)",
    "part_unreadable": "?p= is not a part number; taken as part 1",
    "time_in_url": "a start time in the address (?t=), removed",
    "account_tracker_removed": "the account that copied the address (vd_source), removed",
    "share_tracker_removed": "the person or session that shared the address (mid, share_session_id), removed",
    "query_removed": "other tracking parameters, removed",
    "fragment_removed": "the part of the address after #, removed",
    # Titles
    "url_in_title": "the title contained the same address",
    "url_in_title_differs": "the title contained the address of another video, or one beside an invalid address",
    "url_from_title": "the address was taken from the title",
    "title_newline": "a line break in the title",
    "title_stray_letter": "a stray h after the title",
    "title_site_suffix": "the name of the site after the title",
    "title_unwrapped": "brackets around the whole title, removed",
    "title_unbalanced": "an unmatched bracket, kept",
    "title_cut": "the title was too long and is cut",
    # Times
    "no_times": "the list has time columns, but the row is unmarked",
    "times_unusable": "the times of the row mark no segment",
    "time_unreadable": "the cell is not a time",
    "five_digit_time": "five digits, HMMSS or MMMSS",
    "ambiguous_time": "a time with two readings; the duration of the video decides",
    "seconds_over_59": "seconds of 60 and more, carried into the minutes",
    "leading_zeros_lost": "fewer than four digits, padded with zeros",
    "float_time": "a number with .0, from a spreadsheet",
    "fullwidth_time": "full-width characters",
    "start_missing": "an end without a start",
    "end_missing": "a start without an end",
    "first_pair_empty": "the first pair of times is empty, a later one is not",
    "columns_shifted": "address and title are repeated in place of the first pair of times",
    "shifted_url_differs": "... and the repeated address names another video",
    "zero_length": "a segment that ends where it starts, removed",
    "reversed": "a segment that ends before it starts, swapped",
    "unsorted": "a segment that starts before the previous one",
    "overlapping": "overlapping segments, merged",
    "abutting": "adjacent segments, merged",
    "short_segment": "a segment shorter than 5 s",
    "long_segment": "a segment longer than 10 min",
}
"""Codes of repairs and peculiarities of a row."""

LINE_CODES = {
    "duplicate_in_file": "several rows of one list name the video",
    "duplicate_across_files": "several lists name the video",
    "static_wins": "the lists disagree about its kind; it counts as static",
    "titles_differ": "its rows have different titles: see collection_page",
    "same_title": "a short link with the title of another line: probably the same video",
    "short_link_resolved": "the target of the short link is known",
    "short_link_gone": "the short link no longer exists",
    "short_link_foreign": "the short link does not lead to a Bilibili video; the line has lost its key",
    "short_link_unresolved": "the target of the short link is unknown",
}
"""Properties of a video that depend on all rows."""

FILE_CODES = {
    "gb18030": "the file is GB18030, not UTF-8",
    "header_repaired": "the address column is misspelt",
    "unknown_column": "an unknown column",
}
"""Properties of a whole file."""

CODES = {**REFUSAL_CODES, **ROW_CODES, **LINE_CODES, **FILE_CODES}
