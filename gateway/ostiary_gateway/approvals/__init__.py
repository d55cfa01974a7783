"""Questions to people: may this subject do exactly this?"""
