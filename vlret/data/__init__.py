"""Questions, articles, passages and judgements: from published files to Arrow tables."""
